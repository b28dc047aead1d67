"""`RayWorkers`: Flower's Ray backend, on this machine or on a cluster; the one door to ray."""

import gc

# pyright: reportUnknownMemberType=false, reportArgumentType=false, reportUnknownArgumentType=false
# (Ray's functions are typed in part; its options are values of many types in one dictionary)
import logging
import os
import queue
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, final

from fedvol.errors import EngineError
from fedvol.transport.engine import App, Context, Message, ray_backend
from fedvol.transport.flower import failed_reply
from fedvol.transport.process_pool import GRACE_S
from fedvol.transport.worker_grid import Answer

if TYPE_CHECKING:
    from fedvol.transport.engine import RayBackend, VirtualClientEngineActor

_PARTITION_KEY: Final = "partition-id"
"""Key of a node's configuration that Flower's Ray backend asks for."""

_STARTS: Final = 3
"""How often Ray is started before giving up: on a busy machine its own limits are short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayResources:
    """What Ray is told of this machine, and what each actor takes of it.

    Attributes:
        num_cpus: CPUs of this machine, as Ray shall count them.
        num_gpus: Its GPUs.
        actor_cpus: CPUs of one actor.
        actor_gpus: GPUs of one actor, or the share of one.
    """

    num_cpus: int
    num_gpus: int
    actor_cpus: float
    actor_gpus: float


def share_resources(num_workers: int, *, num_gpus: int) -> RayResources:
    """As many actors as asked for on one machine; each GPU gets as many as another, or one fewer.

    Args:
        num_workers: Actors.
        num_gpus: GPUs to share; 0 for training on CPUs.
    """
    per_gpu = -(-num_workers // num_gpus) if num_gpus else 1
    return RayResources(
        num_cpus=num_workers,
        num_gpus=num_gpus,
        actor_cpus=1,
        actor_gpus=1 / per_gpu if num_gpus else 0,
    )


def cluster_resources(*, num_threads: int, num_gpus: int) -> RayResources:
    """What each actor takes of a cluster that is already there: one GPU, or a training's threads.

    Args:
        num_threads: Threads of one training.
        num_gpus: 0 for training on CPUs.
    """
    return RayResources(
        num_cpus=0, num_gpus=0, actor_cpus=num_threads, actor_gpus=1 if num_gpus else 0
    )


def cluster_address() -> str:
    """The cluster that the environment names, as Ray's own tools read it; empty: none."""
    return os.environ.get("RAY_ADDRESS", "")  # noqa: TID251  # Ray reads it itself


@final
class RayWorkers:
    """Ray actors behind Flower's backend; a `Workers`.

    Any actor takes any node's message. Where no cluster is named, Ray is started on this machine,
    with a folder of its own under the temporary folder, which is removed at the end. Ray listens
    on every address, so it is started with a token, without which it answers nobody.

    Args:
        open_app: Gives an actor its app, in the actor; called for every message.
        resources: Shares of the machine or cluster.
        grace_s: Seconds after a message's limit until its actor is given up.

    Raises:
        EngineError: Ray is not installed, does not start, or has no room for an actor.
    """

    def __init__(
        self, open_app: Callable[[], App], *, resources: RayResources, grace_s: float = GRACE_S
    ) -> None:
        if find_spec("ray") is None:
            raise EngineError(
                "--engine ray",
                "Ray is not installed",
                "Install fedvol with its extra: pip install 'fedvol[client,report,sim]'.",
            )
        self._grace_s = grace_s
        self._answers: queue.Queue[Answer] = queue.Queue()
        self._begun: dict[str, Message] = {}
        self._deadlines: dict[str, float] = {}
        with ExitStack() as stack:
            stack.callback(_quieten("flwr"))
            stack.callback(_keep_signals())
            self._backend = _start(open_app, resources=resources, stack=stack)
            stack.callback(_shut_down)  # under a thread that waits for an answer, Ray crashes
            self._threads = ThreadPoolExecutor(self.num_workers, thread_name_prefix="ray")
            stack.callback(self._threads.shutdown)
            stack.callback(_kill, _actors(self._backend))  # so that every thread gets its answer
            stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)
            self._close = stack.pop_all().close

    @property
    def num_workers(self) -> int:
        """Actors."""
        return self._backend.num_workers

    def begin(self, message: Message, *, context: Context) -> None:
        """Give a message to the next actor that is idle."""
        context.node_config[_PARTITION_KEY] = context.node_id
        self._begun[message.metadata.message_id] = message
        self._threads.submit(self._process, message, context)

    def next_answer(self) -> Answer:
        """Wait for an answer; an actor that died or passed its limit gives one too."""
        while True:
            try:
                answer = self._answers.get(timeout=1.0)
            except queue.Empty:
                late = self._late()
                if late is None:
                    continue
                answer = Answer(message=late, reply=None, what="its actor passed the limit")
            message_id = answer.message.metadata.message_id
            if self._begun.pop(message_id, None) is not None:  # else it was given up before
                return answer

    def close(self) -> None:
        """End the actors, and Ray where it was started here."""
        self._close()

    def _process(self, message: Message, context: Context) -> None:
        message_id = message.metadata.message_id
        self._deadlines[message_id] = time.monotonic() + message.metadata.ttl + self._grace_s
        try:
            reply, _ = self._backend.process_message(message, context)
            answer = Answer(message=message, reply=reply)
        except Exception as error:  # noqa: BLE001  # whatever Ray raises is an answer too
            answer = _answer_of(message, error)
        del self._deadlines[message_id]
        self._answers.put(answer)

    def _late(self) -> Message | None:
        now_s = time.monotonic()
        late = [key for key, deadline_s in dict(self._deadlines).items() if deadline_s < now_s]
        return next((self._begun[key] for key in late if key in self._begun), None)


def _start(
    open_app: Callable[[], App], *, resources: RayResources, stack: ExitStack
) -> "RayBackend":
    """Start or join Ray, and place the actors."""
    attempt = 0
    while True:
        attempt += 1
        try:
            with _no_warnings():
                _init(resources, stack=stack)
                client = {"num_cpus": resources.actor_cpus, "num_gpus": resources.actor_gpus}
                backend = ray_backend({"client_resources": client})
                backend.build(open_app)
        except Exception as error:
            _shut_down()
            no_room = isinstance(error, ValueError)  # Flower's word for it
            if no_room or attempt == _STARTS:
                raise EngineError(
                    "--engine ray",
                    f"Ray does not start: {str(error).splitlines()[0]}",
                    "Look whether the machine is busy, or take --engine in-process.",
                ) from error
        else:
            return backend


def _init(resources: RayResources, *, stack: ExitStack) -> None:
    if not cluster_address():
        _require_token()
    import ray

    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if cluster_address():
        ray.init(**quiet)
        return
    folder = tempfile.mkdtemp(prefix="fedvol-ray-")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    ray.init(
        address="local",
        num_cpus=resources.num_cpus,
        num_gpus=resources.num_gpus,
        include_dashboard=False,
        _temp_dir=folder,
        **quiet,
    )


def _actors(backend: "RayBackend") -> "list[VirtualClientEngineActor]":
    """Every actor of a backend that was just built: all are idle."""
    return list(backend.pool.pool) if backend.pool else []


def _kill(actors: "list[VirtualClientEngineActor]") -> None:
    """Kill actors, idle or at work."""
    import ray

    with _no_warnings():
        for actor in actors:
            ray.kill(actor)


def _shut_down() -> None:
    """End Ray with every process of it: it waits for none, and forgets those of a failed start."""
    import ray
    from ray._private.services import ConsolePopen  # the class of them all

    with _no_warnings():
        ray.shutdown()
        for process in [one for one in gc.get_objects() if type(one) is ConsolePopen]:
            process.kill()
            process.wait()
        gc.collect()


@contextmanager
def _no_warnings() -> Generator[None]:
    """Hide what Python has to say of Ray: it leaves files and processes to the collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _require_token() -> None:
    """Have this process's Ray refuse whoever does not know a secret.

    Ray reads it while it is imported; if another part of the process did that, it decided.
    """
    if "ray" in sys.modules:
        return
    os.environ["RAY_AUTH_MODE"] = "token"  # noqa: TID251  # Ray takes it from nowhere else
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # noqa: TID251  # the same


def _answer_of(message: Message, error: Exception) -> Answer:
    """An error of Ray or of Flower's backend as what became of a message."""
    from ray.exceptions import RayActorError, RayTaskError

    what = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, RayTaskError):
        return Answer(message=message, reply=failed_reply(message, what))
    if isinstance(error, RayActorError):
        what = "its Ray actor died, as when memory runs out"
    return Answer(message=message, reply=None, what=what)


def _quieten(name: str) -> Callable[[], None]:
    """Let a library's logger speak no more; returns how to give it its voice back.

    Flower logs an actor's error in full, which is told in our own words as well.
    """
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    return lambda: logger.setLevel(before)


def _keep_signals() -> Callable[[], None]:
    """How to undo that Ray takes the signals that end a process."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore
