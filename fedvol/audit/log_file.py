"""The file under an audit log: opened under a lock, read in pieces, every error told as ours."""

import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, cast

from fedvol.errors import AuditError

_BLOCK_BYTES: Final = 1 << 16


@contextmanager
def locked_for_writing(path: Path) -> Generator[BinaryIO]:
    """Hold a log alone; it is made where absent, with access for its owner alone.

    Raises:
        AuditError: It cannot be opened or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as raw:
            file = cast("BinaryIO", raw)
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
    except OSError as error:
        raise AuditError(
            str(path),
            f"the audit log cannot be written ({error.strerror})",
            "Free space or mend permissions; nothing leaves the site until then.",
        ) from error


@contextmanager
def opened_for_reading(path: Path) -> Generator[tuple[BinaryIO, int]]:
    """A log, and its size at a moment when nobody wrote to it.

    The lock is given back at once: what stands before that size is never written again, so a long
    log can be read while others append to it.

    Raises:
        AuditError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            size = os.fstat(file.fileno()).st_size
            fcntl.flock(file, fcntl.LOCK_UN)
            yield file, size
    except OSError as error:
        raise AuditError(
            str(path),
            f"the audit log cannot be read ({error.strerror})",
            "Check path and permissions.",
        ) from error


def lines_between(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    """Each line from one place in the file to another; the last may lack its newline."""
    file.seek(start)
    with os.fdopen(os.dup(file.fileno()), "rb") as buffered:
        while start < stop and (line := buffered.readline(stop - start)):
            start += len(line)
            yield line


def read_between(file: BinaryIO, start: int, stop: int) -> bytes:
    """Bytes from one place in the file to another, fewer where it ends before."""
    file.seek(start)
    parts: list[bytes] = []
    while start < stop and (part := file.read(stop - start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def append_bytes(file: BinaryIO, data: bytes, *, at: int) -> None:
    """Write at the end and make it durable, or leave nothing of it.

    Args:
        file: The log, held alone.
        data: Whole lines.
        at: Where its whole lines end; what follows is a torn line, and goes.
    """
    try:
        file.truncate(at)
        file.seek(at)
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(at)
        raise


def lines_backward(file: BinaryIO, *, size: int) -> Iterator[tuple[int, bytes]]:
    """Place and bytes of each whole line, from the last to the first, read in blocks."""
    held, start = b"", size
    while start > 0:
        stop, start = start, max(0, start - _BLOCK_BYTES)
        held = read_between(file, start, stop) + held
        # What stands before the first newline may have begun in an earlier block.
        first = held.find(b"\n") + 1 if start else 0
        if start and not first:
            continue
        *lines, torn = held[first:].split(b"\n")
        place = start + len(held) - len(torn)
        for line in reversed(lines):
            place -= len(line) + 1
            yield place, line + b"\n"
        held = held[:first]
