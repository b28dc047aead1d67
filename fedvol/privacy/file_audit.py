"""`FileAudit`: one JSON line per contribution, each bound to the one before it by its hash.

A line holds an event and `hash = SHA-256(hash of the line before || RFC 8785 of the event)`; the
first follows 32 zero bytes. A changed, removed, inserted or moved line breaks the chain. Lines
cut off the end do not: keep count and hash of the head elsewhere, as `verify_audit` gives them.

A process killed while it wrote leaves a torn last line. Its contribution never left, because
`append` had not returned. The next opening removes it and says so in a record of its own.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from fedvol.errors import AuditError
from fedvol.plan import canonical_json
from fedvol.privacy.audit import AuditEvent
from fedvol.types import Digest, Json

_GENESIS = Digest("0" * 64)
_TAIL_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSummary:
    """A log whose chain holds.

    Attributes:
        records: Lines in it.
        head: Hash of the last line; 64 zeros of an empty log.
    """

    records: int
    head: Digest


def _utc_now() -> datetime:
    return datetime.now(UTC)


class FileAudit:
    """An audit log in a file; several processes may append to it in turn.

    Args:
        path: The file; made where absent, with access for its owner alone.
        now: Gives the time, UTC.

    Raises:
        AuditError: The log was changed, or cannot be read or written.
    """

    def __init__(self, path: Path, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._path = path
        self._now = now
        with self._opened() as file:
            _verified(path, _whole_lines(file))
            self._mend(file)
        _sync_folder(path.parent)

    def append(self, event: AuditEvent, /) -> None:
        """Write one event; it is durable when this returns.

        Raises:
            AuditError: It could not be written; nothing of it remains.
        """
        with self._opened() as file:
            self._mend(file)
            self._write(file, event.as_json())

    def _mend(self, file: BinaryIO) -> None:
        size = file.seek(0, os.SEEK_END)
        torn = len(_last_line(file, size=size, whole=False))
        if torn:
            file.truncate(size - torn)
            self._write(file, {"kind": "note", "note": "torn line removed", "size_bytes": torn})

    def _write(self, file: BinaryIO, fields: dict[str, Json]) -> None:
        size = file.seek(0, os.SEEK_END)
        last = _last_line(file, size=size, whole=True)
        sequence, head = (0, _GENESIS) if not last else _head(self._path, last)
        event: dict[str, Json] = {
            "sequence": sequence + 1,
            "time": self._now().astimezone(UTC).isoformat(),
            **fields,
        }
        line = canonical_json({"event": event, "hash": _chain(head, event)}) + b"\n"
        file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise

    @contextmanager
    def _opened(self) -> Generator[BinaryIO, None, None]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as raw:
                file = cast("BinaryIO", raw)
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        except OSError as error:
            raise AuditError(
                str(self._path),
                f"the audit log cannot be written ({error.strerror})",
                "Free space or mend permissions; nothing leaves the site until then.",
            ) from error


def verify_audit(path: Path) -> AuditSummary:
    """Check a log's chain from its first line to its last.

    Raises:
        AuditError: A line was changed, removed, inserted, moved or torn; names the first such line.
    """
    try:
        with path.open("rb") as file:
            return _verified(path, file)
    except OSError as error:
        raise AuditError(
            str(path),
            f"the audit log cannot be read ({error.strerror})",
            "Check path and permissions.",
        ) from error


def _verified(path: Path, lines: Iterator[bytes] | BinaryIO) -> AuditSummary:
    records, head = 0, _GENESIS
    for line in lines:
        sequence, following = _head(path, line, number=records + 1)
        event = cast("dict[str, Json]", json.loads(line)["event"])
        if sequence != records + 1 or following != _chain(head, event):
            raise _broken(path, records + 1)
        records, head = records + 1, following
    return AuditSummary(records=records, head=head)


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    with os.fdopen(os.dup(file.fileno()), "rb") as buffered:
        yield from (line for line in buffered if line.endswith(b"\n"))


def _head(path: Path, line: bytes, *, number: int | None = None) -> tuple[int, Digest]:
    try:
        document = json.loads(line)
        sequence, following = document["event"]["sequence"], document["hash"]
        # The bytes themselves are bound too, so that no second spelling passes.
        if isinstance(sequence, int) and canonical_json(document) + b"\n" == line:
            return sequence, Digest(str(following))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise _broken(path, number)


def _last_line(file: BinaryIO, *, size: int, whole: bool) -> bytes:
    """The last line that ends with a newline, or what follows it."""
    span = _TAIL_BYTES
    while True:
        start = max(0, size - span)
        file.seek(start)
        tail = _read_all(file, size - start)
        body, newline, torn = tail.rpartition(b"\n")
        if not whole and (newline or start == 0):
            return torn
        if whole and newline and (b"\n" in body or start == 0):
            return body.rpartition(b"\n")[2] + b"\n"
        if start == 0:
            return b""
        span *= 4


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_all(file: BinaryIO, num_bytes: int) -> bytes:
    parts: list[bytes] = []
    while num_bytes > 0 and (part := file.read(num_bytes)):
        parts.append(part)
        num_bytes -= len(part)
    return b"".join(parts)


def _chain(head: Digest, event: dict[str, Json]) -> Digest:
    return Digest(hashlib.sha256(bytes.fromhex(head) + canonical_json(event)).hexdigest())


def _broken(path: Path, number: int | None) -> AuditError:
    return AuditError(
        f"{path}, line {number}" if number else str(path),
        "the chain of the audit log is broken: a line was changed, removed, moved or torn",
        "Keep the file as evidence, find out who changed it, and start a new log.",
    )
