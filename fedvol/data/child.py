"""Work on files from outside, in child processes with limits of memory and time.

A child that crashes or hangs costs its own task only; the next task gets a new child. Tasks go to
a child as Python values, made here; what comes back is bytes, which the caller parses as JSON.
"""

import multiprocessing
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, Generic, TypeVar

from fedvol.errors import SiteFailedError

Task = TypeVar("Task")

_START_S: Final = 120.0
"""Longest wait for a new child to be ready."""

_MAX_REPLY_BYTES: Final = 1 << 20
_READY: Final = b"ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one task may use.

    Attributes:
        memory_bytes: Address space beyond what the child holds when it is ready.
        seconds: Time from start to answer.
    """

    memory_bytes: int = 8 << 30
    seconds: float = 600.0


DEFAULT_LIMITS: Final = Limits()
"""Enough for a whole-body CT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a task has no answer.

    Attributes:
        what: In words, without a full stop.
        process: Id of the child that is gone; its temporary files bear it.
    """

    what: str
    process: int


def map_limited(
    function: Callable[[Task], bytes],
    tasks: Sequence[Task],
    *,
    workers: int = 1,
    limits: Limits = DEFAULT_LIMITS,
) -> Generator[tuple[int, bytes | Fault], None, None]:
    """Run a function over tasks in child processes.

    Args:
        function: Importable by name in the child; returns at most 1 MiB.
        tasks: One argument each.
        workers: Children at one time.
        limits: What each task may use.

    Yields:
        Position of the task, and its answer or why there is none, as they come.

    Raises:
        SiteFailedError: A child does not even start.
    """
    pending = deque(range(len(tasks)))
    children: list[_Child[Task]] = []
    try:
        while pending or children:
            while pending and len(children) < min(max(workers, 1), len(tasks)):
                children.append(_Child(function, limits=limits))
            patience = max(0.0, min(child.deadline for child in children) - time.monotonic())
            ready = wait([child.connection for child in children], timeout=patience)
            for child in list(children):
                if child.connection in ready:
                    answer = child.receive()
                elif time.monotonic() >= child.deadline:
                    answer = child.fault(f"took longer than {limits.seconds:g} s")
                else:
                    continue
                position, child.position = child.position, None
                if position is not None and answer is not None:
                    yield position, answer
                if isinstance(answer, Fault) or not pending:
                    child.stop()
                    children.remove(child)
                else:
                    child.give(pending.popleft(), tasks=tasks)
    finally:
        for child in children:
            child.stop()


class _Child(Generic[Task]):
    """One process and the pipe to it."""

    def __init__(self, function: Callable[[Task], bytes], *, limits: Limits) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(theirs, function, limits.memory_bytes), daemon=True
        )
        self.process.start()
        theirs.close()
        self.position: int | None = None
        self.deadline = time.monotonic() + _START_S
        self._seconds = limits.seconds

    def give(self, position: int, *, tasks: Sequence[Task]) -> None:
        """Hand it a task; a child that is gone is noticed on receiving."""
        self.position = position
        self.deadline = time.monotonic() + self._seconds
        try:
            self.connection.send(tasks[position])
        except (BrokenPipeError, ConnectionResetError):
            return

    def receive(self) -> bytes | Fault | None:
        """Its answer; None when it says that it is ready."""
        try:
            answer = self.connection.recv_bytes(_MAX_REPLY_BYTES)
        except (EOFError, OSError):
            return self.fault("")
        return None if self.position is None else answer

    def fault(self, what: str) -> Fault:
        """Why it has no answer; it is ended first."""
        process = self.process.pid or 0
        self.process.join(1.0 if not what else 0.0)
        status = self.process.exitcode
        self.stop()
        if self.position is None:
            raise SiteFailedError(
                "reading process",
                f"ended before it was ready (status {status})",
                "Look at the process's last words above; check memory and installation.",
            )
        ended = f"the process that read it ended with status {status}"
        return Fault(what=what or ended, process=process)

    def stop(self) -> None:
        """End the process and wait for it."""
        self.connection.close()
        self.process.kill()
        self.process.join()


def _serve(
    connection: "Connection[bytes, Task]", function: Callable[[Task], bytes], memory_bytes: int
) -> None:
    """Life of a child: answer tasks until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(memory_bytes)
    connection.send_bytes(_READY)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send_bytes(function(task))


def _limit_memory(memory_bytes: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space_bytes() + memory_bytes
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _address_space_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # no path of ours
        return int(file.read().split()[0]) * resource.getpagesize()
