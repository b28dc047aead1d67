"""`ProcessPool`: long-lived processes of this machine, each the place of work of some sites.

A worker is a spawned process with a pipe. Once it is ready the parent sends it one message at a
time, as bytes; the worker sends events while it works, then its reply. A worker ends when its
parent does, however that ends. Ctrl-C is the parent's to hear: it then ends the workers.
"""

import json
import multiprocessing
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, cast, final

from fedvol.errors import EngineError
from fedvol.telemetry import Observer, set_up_logging
from fedvol.transport.engine import App, Context, Message
from fedvol.transport.flower import node_context
from fedvol.transport.frames import from_frames, to_frames
from fedvol.transport.simulated_grid import RUN_ID
from fedvol.transport.spawned import be_spawned, how_it_ended, without_ctrl_c
from fedvol.transport.worker_grid import Answer
from fedvol.types import Json

OpenApp = Callable[[int, Observer], App]
"""Makes the app of a worker from its number and who hears of progress; importable by name."""

START_S: Final = 300.0
"""Longest wait for a worker to be ready: it loads the heavy libraries."""

GRACE_S: Final = 120.0
"""Seconds after a message's limit, which the site keeps itself, until its worker is ended."""

_LEAVE_S: Final = 10.0
"""Longest wait for a worker that was asked to end."""

_READY: Final = b"ready"
_EVENT: Final = b"event"
_REPLY: Final = b"reply"


@final
class ProcessPool:
    """Workers of this machine; a `Workers`.

    A node's messages always go to the same worker, so what its site holds in memory is held once.

    Args:
        open_app: Makes each worker's app, in the worker.
        num_workers: Processes.
        observer: Hears of events in the workers, in the thread that waits for answers.
        grace_s: See `GRACE_S`.
    """

    def __init__(
        self,
        open_app: OpenApp,
        *,
        num_workers: int,
        observer: Observer,
        grace_s: float = GRACE_S,
    ) -> None:
        self._observer = observer
        self._workers: list[_Worker] = []
        self._lost: deque[Answer] = deque()
        try:
            with without_ctrl_c():
                for number in range(num_workers):
                    self._workers.append(_Worker(open_app, number=number, grace_s=grace_s))
        except OSError as error:
            self.close()
            raise EngineError(
                f"--workers {num_workers}",
                f"process {len(self._workers) + 1} does not start: {error.strerror}",
                "Choose fewer.",
            ) from error

    @property
    def processes(self) -> tuple[int, ...]:
        """Process ids of the workers."""
        return tuple(worker.process.pid or 0 for worker in self._workers)

    def begin(self, message: Message, *, context: Context) -> None:
        """Put a message into the queue of its node's worker."""
        worker = self._workers[context.node_id % len(self._workers)]
        worker.queue.append(_Task(message=message, config=_texts(context.node_config)))
        if worker.is_gone:
            self._lose(worker, worker.how_it_ended())
        else:
            self._go_on(worker)

    def next_answer(self) -> Answer:
        """Wait for an answer; a worker that died or passed its limit gives one too."""
        while not self._lost:
            awaited = {worker.connection: worker for worker in self._workers if worker.is_awaited}
            assert awaited, "no message is with the workers"
            patience_s = min(worker.deadline_s for worker in awaited.values()) - time.monotonic()
            for connection in wait(list(awaited), timeout=max(0.0, patience_s)):
                answer = self._read(awaited[cast("Connection[bytes, bytes]", connection)])
                if answer is not None:
                    return answer
            for worker in awaited.values():
                if worker.is_awaited and time.monotonic() > worker.deadline_s:
                    worker.stop()
                    limit = "the limit" if worker.is_ready else "the limit of its start"
                    self._lose(worker, f"its process passed {limit} and was ended")
        return self._lost.popleft()

    def close(self) -> None:
        """End every worker; one that is in the midst of a message removes its unfinished files."""
        for worker in self._workers:
            worker.ask_to_leave()
        until_s = time.monotonic() + _LEAVE_S
        for worker in self._workers:
            worker.stop(patience_s=max(0.0, until_s - time.monotonic()))

    def _go_on(self, worker: "_Worker") -> None:
        """Send a worker that is ready and idle its next message."""
        if not worker.queue or worker.task is not None or not worker.is_ready:
            return
        worker.task = worker.queue.popleft()
        try:
            worker.send(worker.task)
        except (BrokenPipeError, ConnectionResetError):
            self._lose(worker, worker.how_it_ended())

    def _read(self, worker: "_Worker") -> Answer | None:
        """Take one thing that a worker says; its answer, if it is one."""
        try:
            kind, frames = _receive(worker.connection)
        except (EOFError, OSError):
            self._lose(worker, worker.how_it_ended())
            return None
        if kind == _EVENT:
            name, fields = json.loads(frames[0])
            self._observer.event(name, **cast("dict[str, Json]", fields))
            return None
        answer = None
        if kind == _READY:
            worker.is_ready = True
        else:
            assert worker.task is not None
            answer = Answer(message=worker.task.message, reply=from_frames(frames))
            worker.task = None
        self._go_on(worker)  # it works on while this reply is taken
        return answer

    def _lose(self, worker: "_Worker", what: str) -> None:
        """Answer the message of a worker that is gone, and those in its queue."""
        worker.is_gone = True
        tasks = [worker.task, *worker.queue] if worker.task else [*worker.queue]
        self._lost.extend(Answer(message=task.message, reply=None, what=what) for task in tasks)
        worker.task = None
        worker.queue.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    message: Message
    config: Mapping[str, str]


@dataclass(slots=True)
class _Worker:
    """One process, the pipe to it, and what it was given."""

    open_app: OpenApp
    number: int = field(kw_only=True)
    grace_s: float = field(kw_only=True)
    queue: deque[_Task] = field(default_factory=deque[_Task], init=False)
    task: _Task | None = field(default=None, init=False)
    is_ready: bool = field(default=False, init=False)
    is_gone: bool = field(default=False, init=False)
    deadline_s: float = field(init=False)
    process: BaseProcess = field(init=False)
    connection: "Connection[bytes, bytes]" = field(init=False)

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, self.open_app, self.number), daemon=True
        )
        self.process.start()
        theirs.close()
        self.deadline_s = time.monotonic() + START_S

    @property
    def is_awaited(self) -> bool:
        """Whether an answer, or that it gets ready, is still to come."""
        return self.task is not None or bool(self.queue)

    def send(self, task: _Task) -> None:
        """Send a task, and count its limit from now; the worker is idle, so it reads."""
        header = {"node": task.message.metadata.dst_node_id, "config": dict(task.config)}
        self.deadline_s = time.monotonic() + task.message.metadata.ttl + self.grace_s
        _send(self.connection, json.dumps(header).encode(), to_frames(task.message))

    def how_it_ended(self) -> str:
        """The end of a process that is gone, in words."""
        words, status = how_it_ended(self.process), self.process.exitcode
        is_early = not self.is_ready and status is not None and status >= 0
        return f"{words} before it was ready: see its last words above" if is_early else words

    def ask_to_leave(self) -> None:
        """Ask the process to end, from wherever it is."""
        if self.process.is_alive():
            self.process.terminate()

    def stop(self, *, patience_s: float = 0.0) -> None:
        """Wait for the process to end, and end it if it does not."""
        self.process.join(patience_s)
        self.process.kill()
        self.process.join()
        self.connection.close()


# --- in the worker --------------------------------------------------------------------------


@final
class _Telling:
    """An observer whose events the parent hears of."""

    def __init__(self, connection: "Connection[bytes, bytes]") -> None:
        self._connection = connection

    def event(self, name: str, /, **fields: Json) -> None:
        """Send it; nothing else is being sent, because a worker has one thread."""
        _send(self._connection, _EVENT, [json.dumps([name, fields]).encode()])


def _serve(connection: "Connection[bytes, bytes]", open_app: OpenApp, number: int) -> None:
    """Life of a worker: answer messages until the pipe closes."""
    be_spawned()
    set_up_logging(sys.stderr)
    app = open_app(number, _Telling(connection))
    try:
        _send(connection, _READY, [])
        while True:
            told, frames = _receive(connection)
            header, message = json.loads(told), from_frames(frames)
            del frames
            reply = app(message, node_context(header["node"], header["config"], run=RUN_ID))
            del message
            _send(connection, _REPLY, to_frames(reply))
            del reply
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent has no more work


# --- on both sides --------------------------------------------------------------------------


def _send(connection: "Connection[bytes, bytes]", head: bytes, frames: list[bytes]) -> None:
    connection.send_bytes(head)
    connection.send_bytes(str(len(frames)).encode())
    for frame in frames:
        connection.send_bytes(frame)


def _receive(connection: "Connection[bytes, bytes]") -> tuple[bytes, list[bytes]]:
    head = connection.recv_bytes()
    return head, [connection.recv_bytes() for _ in range(int(connection.recv_bytes()))]


def _texts(config: Mapping[str, object]) -> dict[str, str]:
    return {key: str(value) for key, value in config.items()}
