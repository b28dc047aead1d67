"""Runs side by side, each in a process of its own; one that dies takes no other with it.

A child sends the events of its run, then how it ended.
"""

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast, final

from fedvol.errors import FedvolError
from fedvol.telemetry import Observer, set_up_logging
from fedvol.transport.spawned import be_spawned, how_it_ended, without_ctrl_c
from fedvol.types import Json

_LEAVE_S = 10.0
"""Longest wait for a child that was told to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One run to be carried out.

    Attributes:
        name: Names it in events.
        study: Its study file.
        data: Folder of volumes.
        out: Its output folder; a run that is there goes on.
        device: `auto`, `cpu` or `cuda`.
        after: Name of a run that must finish before it begins; empty: it may begin at once.
    """

    name: str
    study: Path
    data: Path
    out: Path
    device: str
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended.

    Attributes:
        work: The run.
        reason: Why it failed; empty where it finished.
        seconds: How long it took.
    """

    work: Work
    reason: str
    seconds: float


def carry_out(works: Sequence[Work], *, jobs: int, observer: Observer) -> Iterator[Ended]:
    """Carry out runs, several at a time, and give each as it ends.

    Args:
        works: The runs, in the order in which they begin; each after those that it needs.
        jobs: Runs at one time.
        observer: Hears `sweep.event` of each event of a run: its run, name and fields.
    """
    waiting = list(works)
    running: dict[Connection, _Child] = {}
    try:
        while waiting or running:
            while len(running) < jobs and (work := _ready(waiting, running.values())):
                waiting.remove(work)
                child = _Child(work)
                running[child.connection] = child
            for connection in wait(list(running)):
                child = running[cast("Connection", connection)]
                ended = child.hear(observer)
                if ended is not None:
                    del running[child.connection]
                    yield ended
                    if ended.reason:
                        yield from _given_up(ended, waiting)
    finally:
        for child in running.values():
            child.stop()


def _ready(waiting: Sequence[Work], running: Iterable["_Child"]) -> Work | None:
    """The first run that needs none of those that are not finished."""
    unfinished = {work.name for work in waiting} | {child.work.name for child in running}
    return next((work for work in waiting if work.after not in unfinished), None)


def _given_up(failed: Ended, waiting: list[Work]) -> Iterator[Ended]:
    """Runs that needed one that failed, and those that needed these: they do not begin."""
    for work in [one for one in waiting if one.after == failed.work.name]:
        waiting.remove(work)
        ended = Ended(work=work, reason=f"it needs {work.after}, which failed", seconds=0.0)
        yield ended
        yield from _given_up(ended, waiting)


@final
class _Child:
    """A process that carries out one run."""

    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self.work = work
        self._began = time.monotonic()
        self.connection, theirs = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(target=_be_child, args=(work, theirs))
        with without_ctrl_c():
            self._process.start()
        theirs.close()

    def hear(self, observer: Observer) -> Ended | None:
        """Take one thing that the child says; how it ended, if that is it."""
        try:
            said: dict[str, Json] = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return self._ended(how_it_ended(self._process))
        if "reason" in said:
            self._process.join()
            return self._ended(str(said["reason"]))
        observer.event("sweep.event", run=self.work.name, **said)
        return None

    def stop(self) -> None:
        """End it; what its run wrote goes on later."""
        self._process.terminate()
        self._process.join(_LEAVE_S)
        self._process.kill()
        self._process.join()

    def _ended(self, reason: str) -> Ended:
        self.connection.close()
        seconds = time.monotonic() - self._began
        return Ended(work=self.work, reason=reason, seconds=seconds)


@final
class _Relay:
    """Sends each event to the parent."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def event(self, name: str, /, **fields: Json) -> None:
        """Send it."""
        self._send(json.dumps({"event": name, "fields": fields}).encode())


def _be_child(work: Work, connection: Connection) -> None:
    from fedvol.simulation.simulate import simulate

    be_spawned()
    set_up_logging(sys.stderr)
    reason = ""
    try:
        simulate(
            work.study,
            data=work.data,
            out=work.out,
            baselines=(),
            resume=work.out.exists(),
            device=work.device,
            observer=_Relay(connection.send_bytes),
        )
    except FedvolError as error:
        reason = str(error)
    connection.send_bytes(json.dumps({"reason": reason}).encode())
