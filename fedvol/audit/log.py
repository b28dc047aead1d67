"""`AuditLog`: the append-only log of a site or a server, one event a line, in a chain of hashes.

Several processes may append to one file, each under a lock. Each follows what the others wrote
since, and refuses to go on where that does not fit.

A process killed while it wrote leaves a torn last line. Nothing had left for it, because `append`
had not returned. Whoever writes next removes it and says so in a record of its own.

**What opening checks.** Without a signer, the whole chain. With one, it trusts the last checkpoint
that this key signed, if it stands at the very place in the file that it names, and checks the
chain from there: no more than a few thousand lines, however long the log. That is safe in what
matters at that moment. A line cannot be removed, added or moved before the checkpoint without
moving it; the lines that follow go on from the signed hash, so a change before it stays in plain
sight and `verify_log` names it; and nobody without the key can make such a checkpoint. What is
put off is only the day on which a line changed in place, at equal length, is noticed. So read the
whole log regularly, and whenever it matters: `fedvol audit verify`.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, final

from fedvol.audit.chain import ChainEnd, Misfit, next_line
from fedvol.audit.checkpoint import CHECKPOINT, Cadence, Checkpoint
from fedvol.audit.events import AuditEvent
from fedvol.audit.log_file import (
    append_bytes,
    lines_backward,
    lines_between,
    locked_for_writing,
    read_between,
)
from fedvol.audit.verify import broken
from fedvol.audit.walk import Walk
from fedvol.errors import AuditError
from fedvol.files import sync_folder
from fedvol.identity import IdentityKey
from fedvol.types import Json

_MARK = f'"kind":"{CHECKPOINT}"'.encode()


def _utc_now() -> datetime:
    return datetime.now(UTC)


@final
class AuditLog:
    """An audit log in a file. As a context manager it signs on the way out.

    Args:
        path: The file; made where absent, with access for its owner alone.
        now: Gives the time, UTC.
        signer: Signs checkpoints, and its own are trusted at opening; None: this process appends
            without signing.
        cadence: When a checkpoint is due.

    Raises:
        AuditError: The log was changed, or cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        *,
        now: Callable[[], datetime] = _utc_now,
        signer: IdentityKey | None = None,
        cadence: Cadence | None = None,
    ) -> None:
        self._path = path
        self._now = now
        self._signer = signer
        self._cadence = cadence or Cadence()
        with locked_for_writing(path) as file:
            size = file.seek(0, os.SEEK_END)
            self._walk = _trusted(file, size=size, key=signer.public.hex if signer else "")
            self._write(file, torn=self._follow(file, size=size))
            sync_folder(path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def end(self) -> ChainEnd:
        """The chain's end when this process last looked.

        Told to others, in messages or receipts, it makes them witnesses of the log.
        """
        return self._walk.end

    def append(self, event: AuditEvent) -> None:
        """Write one event, and a checkpoint if one is due; both are durable when this returns.

        Raises:
            AuditError: They could not be written and nothing of them remains; or the log is not
                what it was.
        """
        with locked_for_writing(self._path) as file:
            torn = self._catch_up(file)
            self._write(file, event.as_json(), torn=torn)

    def checkpoint_if_due(self) -> None:
        """Sign what has waited long enough; to be called now and then where few events come.

        Raises:
            AuditError: As for `append`.
        """
        with locked_for_writing(self._path) as file:
            self._write(file, torn=self._catch_up(file))

    def close(self) -> None:
        """Sign what is not signed yet, if this process signs.

        Raises:
            AuditError: As for `append`.
        """
        if self._signer is None:
            return
        with locked_for_writing(self._path) as file:
            self._write(file, torn=self._catch_up(file), is_closing=True)

    # --- under the lock -----------------------------------------------------------------------

    def _catch_up(self, file: BinaryIO) -> int:
        """Follow what others wrote; the number of bytes of a torn line."""
        size = file.seek(0, os.SEEK_END)
        end, last = self._walk.end, self._walk.last_line
        if read_between(file, end.size_bytes - len(last), min(size, end.size_bytes)) != last:
            gone = Misfit(what="this process has seen it, and it is gone or changed")
            raise broken(self._path, gone, line=end.records)
        return self._follow(file, size=size)

    def _follow(self, file: BinaryIO, *, size: int) -> int:
        for line in lines_between(file, self._walk.end.size_bytes, size):
            if not line.endswith(b"\n"):
                return len(line)
            found = self._walk.step(line)
            if isinstance(found, Misfit):
                raise broken(self._path, found, line=self._walk.end.records + 1)
        return 0

    def _write(
        self, file: BinaryIO, *events: dict[str, Json], torn: int, is_closing: bool = False
    ) -> None:
        now = self._now().astimezone(UTC)
        start = end = self._walk.end
        lines: list[bytes] = []
        if torn:
            events = ({"kind": "note", "note": "torn line removed", "size_bytes": torn}, *events)
        for event in events:
            line, end = next_line(end, {**event, "time": now.isoformat()})
            lines.append(line)
        num_unsigned = self._walk.num_unsigned + len(events)
        is_due = bool(is_closing and num_unsigned) or self._is_due(num_unsigned, now=now)
        if self._signer is not None and is_due:
            lines.append(self._checkpoint(end, time=now.isoformat(), signer=self._signer))
        if not lines:
            return
        append_bytes(file, b"".join(lines), at=start.size_bytes)
        for line in lines:
            found = self._walk.step(line)
            assert not isinstance(found, Misfit), found.what

    def _checkpoint(self, end: ChainEnd, *, time: str, signer: IdentityKey) -> bytes:
        checkpoint = Checkpoint.sign(end, time=time, signer=signer)
        if not checkpoint.is_genuine():  # written, it would stop the log for ever
            raise AuditError(
                str(self._path),
                "the signature of a checkpoint is not that of the signer's public key",
                "Mend the identity key; nothing leaves the site until then.",
            )
        return next_line(end, checkpoint.as_json())[0]

    def _is_due(self, num_unsigned: int, *, now: datetime) -> bool:
        if num_unsigned >= self._cadence.num_records:
            return True
        since = self._walk.unsigned_since
        return since is not None and now - since >= self._cadence.age


def _trusted(file: BinaryIO, *, size: int, key: str) -> Walk:
    """A walk that stands after the last checkpoint that the key signed, or at the start."""
    if not key:
        return Walk()
    for place, line in lines_backward(file, size=size):
        if _MARK in line and (walk := Walk.after_checkpoint(line, place=place, key=key)):
            return walk
    return Walk()
