"""The chain of hashes: how one line of an audit log is bound to the line before it.

A line is the canonical JSON (RFC 8785) of `{"event": ..., "hash": ...}`. Its hash is SHA-256 of
the hash of the line before, then the bytes of the event as they stand in the line; the first
follows 32 zero bytes. The event holds the line's own number, `sequence`, from 1. So a changed,
removed, repeated, inserted or moved line does not fit where it stands.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from fedvol.plan import canonical_json
from fedvol.types import Digest, Json

GENESIS: Final = Digest("0" * 64)
"""What the first line follows."""

_BEFORE, _BETWEEN, _AFTER = b'{"event":', b',"hash":"', b'"}\n'
_HASH = slice(-len(_AFTER) - 64, -len(_AFTER))
_BODY = slice(len(_BEFORE), _HASH.start - len(_BETWEEN))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEnd:
    """How far a log has been followed.

    Attributes:
        records: Lines up to here.
        head: Hash of the last of them.
        size_bytes: Bytes up to here.
    """

    records: int = 0
    head: Digest = GENESIS
    size_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line that fits.

    Attributes:
        event: What it holds, `sequence` and `time` included.
        time: When it was written, by the clock of whoever wrote it.
        end: The chain's end after it.
    """

    event: dict[str, Json]
    time: datetime
    end: ChainEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """One line that does not fit where it stands.

    Attributes:
        what: What is wrong with it, without a full stop.
        claimed: The chain's end after it, by its own word; None where it says nothing readable.
        is_torn: Whether it only lacks its end.
    """

    what: str
    claimed: ChainEnd | None = None
    is_torn: bool = False


def next_line(end: ChainEnd, event: dict[str, Json]) -> tuple[bytes, ChainEnd]:
    """The line that adds an event to a chain, and the chain's end after it."""
    body = canonical_json({"sequence": end.records + 1, **event})
    head = _link(end.head, body)
    line = b"".join((_BEFORE, body, _BETWEEN, head.encode(), _AFTER))
    return line, ChainEnd(records=end.records + 1, head=head, size_bytes=end.size_bytes + len(line))


def follow(end: ChainEnd, line: bytes) -> LogLine | Misfit:
    """Read one line and hold it to the chain before it."""
    if not line.endswith(b"\n"):
        return Misfit(what="the line is torn: it has no end", is_torn=True)
    event = event_of(line)
    sequence, time = (None, None) if event is None else (event.get("sequence"), _time_of(event))
    if event is None or type(sequence) is not int or time is None:
        return Misfit(what="this is no line of an audit log")
    head = Digest(line[_HASH].decode("ascii", "replace"))
    after = ChainEnd(records=sequence, head=head, size_bytes=end.size_bytes + len(line))
    expected = end.records + 1
    if sequence == expected and head == _link(end.head, line[_BODY]):
        return LogLine(event=event, time=time, end=after)
    if sequence > expected:
        what = f"record {expected} was removed or moved; record {sequence} stands in its place"
    elif sequence < expected:
        what = f"record {sequence} stands here, where record {expected} belongs"
    else:
        what = f"record {sequence}, or the one before it, was changed"
    return Misfit(what=what, claimed=after)


def event_of(line: bytes) -> dict[str, Json] | None:
    """The event in a line, not held to any chain; None if it is no line of an audit log."""
    frame = line[: len(_BEFORE)], line[_BODY.stop : _HASH.start], line[_HASH.stop :]
    if frame != (_BEFORE, _BETWEEN, _AFTER):
        return None
    try:
        event = json.loads(line[_BODY])
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Json]", event) if isinstance(event, dict) else None


def _time_of(event: dict[str, Json]) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(event.get("time")))
    except ValueError:
        return None
    return time if time.tzinfo else None


def _link(head: Digest, body: bytes) -> Digest:
    return Digest(hashlib.sha256(_bytes_of(head) + body).hexdigest())


def _bytes_of(head: Digest) -> bytes:
    """A hash's bytes; of a head that is no hash (after a line that does not fit), its letters."""
    try:
        return bytes.fromhex(head)
    except ValueError:
        return head.encode()
