"""Folders a command fills: whole or not there."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from fedvol.errors import OutputFolderError


@contextmanager
def new_folder(target: Path) -> Generator[Path]:
    """Yield a working folder that takes the target's name on success and is removed otherwise.

    Raises:
        OutputFolderError: The target holds something already, or cannot be made.
    """
    working = target.with_name(f".{target.name}.part")
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise OutputFolderError(
                str(target), "something is there already", "Choose a new or empty folder."
            )
        shutil.rmtree(working, ignore_errors=True)
        working.mkdir(parents=True)
    except OSError as error:
        raise _unusable(target, error) from error
    try:
        yield working
        if target.exists():
            target.rmdir()
        working.rename(target)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _unusable(target: Path, error: OSError) -> OutputFolderError:
    reason = error.strerror or "it cannot be written"
    return OutputFolderError(str(target), reason, "Check the path and its permissions.")
