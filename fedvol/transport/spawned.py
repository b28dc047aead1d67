"""Life of a spawned process: it ends when its parent does, and Ctrl-C is the parent's to hear."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Final

_GONE_S: Final = 5.0
"""Longest wait for the status of a process whose pipe is closed."""


@contextmanager
def without_ctrl_c() -> Generator[None]:
    """Start processes that Ctrl-C does not reach, not even while they load their libraries."""
    resource_tracker.ensure_running()  # starting it later would let the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def how_it_ended(process: BaseProcess) -> str:
    """The end of a process that is gone, in words."""
    process.join(_GONE_S)
    status = process.exitcode
    if status is None:
        return "its process does not answer any more"
    if status < 0:
        name = signal.Signals(-status).name
        hint = ", as when memory runs out" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with status {status}"


def be_spawned() -> None:
    """In the process itself: end with the parent, however that ends, and by an exception if asked.

    By an exception, so that files that are being written are removed.
    """
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _leave(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    raise SystemExit(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
