"""The coordinator as a child process: started, watched, and started again when it dies."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import final

from fedvol.audit import AuditLog
from fedvol.files import locked_folder
from fedvol.server.run_queue import RunQueue
from fedvol.server.server_state import ServerState
from fedvol.telemetry import JsonLines, Observer

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 60.0
STEADY_S = 60.0
"""A coordinator that lived this long is started again without delay."""

_END_S = 10.0
_STEP_S = 0.2

_log = logging.getLogger(__name__)


@final
class CoordinatorProcess:
    """Keeps one coordinator running until told to stop.

    Args:
        words: The command that is the coordinator; it ends when its standard input ends.
        observer: Hears of its starts and ends.
    """

    def __init__(self, words: Sequence[str], *, observer: Observer) -> None:
        self._words = list(words)
        self._observer = observer
        self._stop = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._thread = threading.Thread(target=self._keep, name="coordinator")

    @property
    def pid(self) -> int | None:
        """Number of the running process."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    @property
    def starts(self) -> int:
        """How often it was started."""
        return self._starts

    def start(self) -> None:
        """Start it and keep it running."""
        self._thread.start()

    def stop(self) -> None:
        """End it; a run under way is gone on with after the next start."""
        self._stop.set()
        self._thread.join()

    def _keep(self) -> None:
        retry_s = FIRST_RETRY_S
        while not self._stop.is_set():
            began_s = time.monotonic()
            status = self._live()
            if status is None:
                return
            self._observer.event("coordinator.ended", status=status)
            if time.monotonic() - began_s >= STEADY_S:
                retry_s = FIRST_RETRY_S
            self._stop.wait(retry_s)
            retry_s = min(2 * retry_s, MAX_RETRY_S)

    def _live(self) -> int | None:
        """One life; its exit status, or None if it was ended from here."""
        child = subprocess.Popen(self._words, stdin=subprocess.PIPE)  # noqa: S603  # our own command
        self._child = child
        self._starts += 1
        self._observer.event("coordinator.started", process=child.pid)
        try:
            while child.poll() is None:
                if self._stop.wait(_STEP_S):
                    return None
            return child.returncode
        finally:
            _end(child)


def coordinator_words(folder: Path) -> list[str]:
    """The command of a server's coordinator."""
    return [sys.executable, "-m", "fedvol", "server", "coordinate", str(folder)]


def coordinate(folder: Path) -> None:
    """Be the coordinator of a server's folder, until standard input ends or the process is killed.

    Raises:
        FolderLockedError: Another coordinator works here.
        TransportError: The engine was away for too long.
        StoreError: The store cannot be used.
        AuditError: The audit log was changed, or cannot be read or written.
    """
    state = ServerState.open(folder)
    threading.Thread(target=_die_with_parent, name="parent", daemon=True).start()
    with (
        locked_folder(state.folder.conducting),
        JsonLines(state.folder.events) as events,
        AuditLog(state.folder.audit, signer=state.key) as audit,
    ):
        RunQueue(state, audit=audit, observer=events).serve()


def _die_with_parent() -> None:
    """End at once when the server's process is gone: two coordinators would fight for sites."""
    while os.read(sys.stdin.fileno(), 1 << 10):
        pass
    os._exit(0)


def _end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    child.stdin.close()
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()
