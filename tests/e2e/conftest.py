"""The command line as a test calls it."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedvol.cli.main import main


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        status: Its exit status.
        err: What it told people.
        out: What it told scripts.
    """

    status: int
    err: str
    out: str


Command = Callable[..., Ended]


@pytest.fixture
def fedvol(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in this process; a start of its own would take seconds each."""

    def run(*words: str | Path) -> Ended:
        capsys.readouterr()
        with _own_logging():
            status = main([str(word) for word in words])
        told = capsys.readouterr()
        return Ended(status=status, err=told.err, out=told.out)

    return run


@contextmanager
def _own_logging() -> Generator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
