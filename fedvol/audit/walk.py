"""`Walk`: goes along a log line by line and holds chain and checkpoints to what they say."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from fedvol.audit.chain import ChainEnd, LogLine, Misfit, event_of, follow
from fedvol.audit.checkpoint import CHECKPOINT, Checkpoint


@dataclass(slots=True, kw_only=True)
class Walk:
    """How far a log was followed, and what was met on the way.

    Attributes:
        end: Where the walk stands.
        last_line: The line before that.
        checkpoint: The last checkpoint met.
        num_checkpoints: Checkpoints met.
        signers: Keys that signed them, each with the first line it signed.
        num_unsigned: Lines since the last checkpoint.
        unsigned_since: Time of the first of them.
        is_broken: Whether it went past a line that does not fit. Places in the file mean nothing
            from there on.
    """

    end: ChainEnd = field(default_factory=ChainEnd)
    last_line: bytes = b""
    checkpoint: Checkpoint | None = None
    num_checkpoints: int = 0
    signers: dict[str, int] = field(default_factory=dict[str, int])
    num_unsigned: int = 0
    unsigned_since: datetime | None = None
    is_broken: bool = False

    @classmethod
    def after_checkpoint(cls, line: bytes, *, place: int, key: str) -> Self | None:
        """A walk that trusts a checkpoint: signed by the key, and at the place that it names.

        Args:
            line: The line of a checkpoint.
            place: Bytes before it in the file.
            key: Public key, in hexadecimal.
        """
        checkpoint = Checkpoint.read(event_of(line) or {})
        if checkpoint is None or (checkpoint.public, checkpoint.size_bytes) != (key, place):
            return None
        walk = cls(end=checkpoint.end)
        return None if isinstance(walk.step(line), Misfit) else walk

    def step(self, line: bytes) -> LogLine | Misfit:
        """Follow one line; the walk stays where it is if the line does not fit."""
        found = follow(self.end, line)
        if isinstance(found, Misfit):
            return found
        if found.event.get("kind") == CHECKPOINT:
            checkpoint = Checkpoint.read(found.event)
            wrong = self._wrong_with(checkpoint)
            if checkpoint is None or wrong:
                return Misfit(what=wrong, claimed=found.end)
            self.checkpoint = checkpoint
            self.num_checkpoints += 1
            self.signers.setdefault(checkpoint.public, found.end.records)
            self.num_unsigned, self.unsigned_since = 0, None
        else:
            self.num_unsigned += 1
            self.unsigned_since = self.unsigned_since or found.time
        self.end, self.last_line = found.end, line
        return found

    def go_past(self, misfit: Misfit) -> None:
        """Go on from what a line claims that does not fit, to find the next such line."""
        self.is_broken = True
        self.end = misfit.claimed or self.end

    def _wrong_with(self, checkpoint: Checkpoint | None) -> str:
        if checkpoint is None:
            return "the checkpoint lacks what a checkpoint holds"
        said, here = checkpoint.end, self.end
        is_elsewhere = said.size_bytes != here.size_bytes and not self.is_broken
        if (said.records, said.head) != (here.records, here.head) or is_elsewhere:
            return "the checkpoint vouches for other lines than those before it"
        if not checkpoint.is_genuine():
            return "the checkpoint's signature is not that of the key it names"
        return ""
