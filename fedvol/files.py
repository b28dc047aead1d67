"""Files that are either whole or not there: atomic writes, folder locks, disk-full as an error."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fedvol.errors import DiskFullError, FolderLockedError, StoreError
from fedvol.types import Digest

_CHUNK_BYTES = 1 << 20


@contextmanager
def atomic_path(target: Path) -> Generator[Path]:
    """Yield a temporary path beside `target`; on success it is synced and renamed over it.

    Raises:
        DiskFullError: No space is left.
        StoreError: The folder cannot be written.
    """
    with _beside(target) as temporary:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)


def write_atomic(target: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a file whole or not at all.

    Args:
        target: Where; its folder is made where absent.
        data: The content.
        mode: Permissions from the first byte on, less the process's mask.

    Raises:
        DiskFullError: No space is left.
        StoreError: The folder cannot be written.
    """
    with atomic_path(target) as temporary:
        _write(temporary, data, mode=mode)


def write_new(target: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file that is not there yet: whole or not at all, and never over another.

    Args:
        target: Where; its folder is made where absent.
        data: The content.
        mode: Permissions from the first byte on, less the process's mask.

    Raises:
        FileExistsError: Something is there already; it is left as it was.
        DiskFullError: No space is left.
        StoreError: The folder cannot be written, or its file system has no hard links.
    """
    with _beside(target) as temporary:
        _write(temporary, data, mode=mode)
        is_new = _named(temporary, target)
    if not is_new:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left half-written anywhere below a folder that is locked.

    Raises:
        StoreError: The folder cannot be written.
    """
    try:
        for pattern in (".*.part", ".*.part.spool"):
            for path in folder.rglob(pattern):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise store_error(folder, error) from error


def sync_tree(folder: Path) -> None:
    """Make everything below a folder durable.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        for path in (folder, *folder.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            else:
                sync_folder(path)
    except OSError as error:
        raise store_error(folder, error) from error


def digest_file(path: Path) -> Digest:
    """SHA-256 of a file's content, read in pieces."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hasher.update(chunk)
    return Digest(hasher.hexdigest())


@contextmanager
def locked_folder(folder: Path) -> Generator[None]:
    """Hold a folder against a second process; the lock of a dead process is free at once.

    Raises:
        FolderLockedError: Another live process holds it.
        StoreError: The folder cannot be made or written.
    """
    lock = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+")
    except OSError as error:
        raise store_error(folder, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise FolderLockedError(
                str(folder),
                f"process {holder} is working in this folder",
                "Wait until it ends, or choose another folder.",
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: The folder cannot be read or synced.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hold(path: Path) -> BinaryIO:
    """Hold a file until what is returned is closed, or the process ends; waits for other holders.

    Raises:
        StoreError: It cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        raise store_error(path, error) from error
    return file


def is_held(path: Path) -> bool:
    """Whether a live process holds a file by `hold`, in whichever container.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise store_error(path, error) from error
    return False


def store_error(target: Path, error: OSError) -> StoreError:
    """What the operating system's error is called here: `DiskFullError`, or `StoreError`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            str(target),
            "no space left on the disk",
            "Free some space and start again with --resume.",
        )
    return StoreError(
        str(target), error.strerror or "cannot be written", "Check the path and its permissions."
    )


def _write(path: Path, data: bytes, *, mode: int) -> None:
    path.unlink(missing_ok=True)  # of a killed process that bore our number
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _beside(target: Path) -> Generator[Path]:
    """A temporary path beside `target`, whose folder is made where absent and synced at the end."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync_folder(target.parent)
    except OSError as error:
        raise store_error(target, error) from error
    finally:
        with suppress(OSError):  # a folder that is a file: the first error says so already
            temporary.unlink(missing_ok=True)


def _named(temporary: Path, target: Path) -> bool:
    """Give a written file its name, unless something bears it; a rename would replace that."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP):
            raise StoreError(
                str(target), "its file system has no hard links", "Choose a folder on a local disk."
            ) from error
        raise
    return True
