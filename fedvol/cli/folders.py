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


def require_demo_folder(folder: Path, *, study: bytes, resume: bool) -> None:
    """Accept a demo's folder: new, empty, or begun by an earlier demo that is to be resumed.

    A demo writes its study first, then `hospitals`, then `run`. A folder is one that a demo began
    if its study is the demo's, byte for byte, and its hospitals are there or nothing else is yet.

    Args:
        folder: The folder the user named; nothing in it is changed.
        study: The demo's study file.
        resume: Whether to go on where an earlier demo stopped.

    Raises:
        OutputFolderError: It holds something else, or a demo that was not to be resumed.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputFolderError(str(folder), "is a file", "Name a folder with --out.")
    path = folder / "study.toml"
    try:
        held = {item.name for item in folder.iterdir()} if folder.is_dir() else set[str]()
        is_ours = path.is_file() and path.read_bytes() == study
    except OSError as error:
        raise _unusable(folder, error) from error
    held = {name for name in held if not (name.startswith(".") and name.endswith(".part"))}
    if not held:
        return
    if not is_ours or ("hospitals" not in held and held != {"study.toml"}):
        raise OutputFolderError(
            str(folder),
            "holds files of something else, or a demo of another version",
            "Name a new or empty folder with --out.",
        )
    if not resume:
        raise OutputFolderError(
            str(folder),
            "holds a demo already",
            "Add --resume to continue it, or name another folder with --out.",
        )


def _unusable(target: Path, error: OSError) -> OutputFolderError:
    reason = error.strerror or "it cannot be written"
    return OutputFolderError(str(target), reason, "Check the path and its permissions.")
