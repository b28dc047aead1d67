"""`verify_log`: read a whole log and name every line that does not fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedvol.audit.chain import LogLine, Misfit
from fedvol.audit.checkpoint import Checkpoint
from fedvol.audit.log_file import lines_between, opened_for_reading
from fedvol.audit.walk import Walk
from fedvol.errors import AuditError, UsageError
from fedvol.types import Digest, Json

_KEEP = "Keep the file as evidence, find out who changed it, and start a new log."
_MEND = (
    "If a process was killed as it wrote, start it again: it removes the line and says so. If none "
    "was, keep the file as evidence."
)
_MAX_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSummary:
    """A log that verifies.

    Attributes:
        records: Lines in it.
        head: Hash of the last line; 64 zeros of an empty log.
        num_checkpoints: Signed checkpoints among the lines.
        checkpoint: The last of them.
        num_unsigned: Lines after it.
    """

    records: int
    head: Digest
    num_checkpoints: int
    checkpoint: Checkpoint | None
    num_unsigned: int

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return {
            "records": self.records,
            "head": self.head,
            "num_checkpoints": self.num_checkpoints,
            "checkpoint": self.checkpoint.as_json() if self.checkpoint else None,
            "num_unsigned": self.num_unsigned,
        }


class KnownHead(BaseModel):
    """What was known of a log at an earlier day: its number of lines and its head."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    records: int = Field(ge=0)
    head: Digest = Field(pattern=r"^[0-9a-f]{64}$")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `fedvol audit verify --json` printed; the last line counts.

        Raises:
            UsageError: The file is absent, or holds no such thing.
        """
        fix = "Give a file that holds the line of JSON of an earlier fedvol audit verify --json."
        try:
            text = path.read_text(encoding="utf-8").strip()
            return cls.model_validate_json(text.rpartition("\n")[2])
        except OSError as error:
            raise UsageError(str(path), f"cannot be read ({error.strerror})", fix) from error
        except (ValidationError, UnicodeDecodeError) as error:
            raise UsageError(str(path), "states no head of an audit log", fix) from error


def verify_log(
    path: Path,
    *,
    keys: Sequence[str] = (),
    against: KnownHead | None = None,
    take: Callable[[LogLine], None] | None = None,
) -> LogSummary:
    """Read a whole log and check chain, checkpoints and what was known of it before.

    Others may append meanwhile; lines that come later are left out.

    Args:
        path: The log.
        keys: Public keys, in hexadecimal, of the log's owner. With any, each checkpoint must be
            signed by one of them, and there must be one.
        against: What was known of the log before.
        take: Called with each line, in order, until one does not fit.

    Raises:
        AuditError: A line was changed, removed, inserted, repeated, moved or torn; names the first
            such line and the others. Or the log is not what `keys` and `against` say.
    """
    walk, misfits, number = Walk(), list[tuple[int, Misfit]](), 0
    is_known = against is None or against.records == 0
    with opened_for_reading(path) as (file, size):
        for number, line in enumerate(lines_between(file, 0, size), start=1):
            found = walk.step(line)
            if isinstance(found, Misfit):
                misfits.append((number, found))
                walk.go_past(found)
            elif not misfits:
                if against is not None and number == against.records:
                    is_known = found.end.head == against.head
                if take is not None:
                    take(found)
    if misfits:
        raise _all_broken(path, misfits)
    if against is not None and not is_known:
        raise _not_as_known(path, against, records=number)
    _require_keys(path, walk, keys=keys)
    return LogSummary(
        records=walk.end.records,
        head=walk.end.head,
        num_checkpoints=walk.num_checkpoints,
        checkpoint=walk.checkpoint,
        num_unsigned=walk.num_unsigned,
    )


def broken(path: Path, found: Misfit, *, line: int, more: str = "") -> AuditError:
    """What a line that does not fit is told as."""
    return AuditError(
        f"{path}, line {line}",
        f"the chain of the audit log is broken: {found.what}{more}",
        _MEND if found.is_torn else _KEEP,
    )


def _all_broken(path: Path, misfits: Sequence[tuple[int, Misfit]]) -> AuditError:
    (first, found), others = misfits[0], [str(number) for number, _ in misfits[1:]]
    named, rest = others[:_MAX_NAMED], len(others) - _MAX_NAMED
    more = f"; nor do these lines fit: {', '.join(named)}" if named else ""
    return broken(path, found, line=first, more=more + (f" and {rest} others" if rest > 0 else ""))


def _not_as_known(path: Path, against: KnownHead, *, records: int) -> AuditError:
    if records < against.records:
        return AuditError(
            f"{path}, after line {records}",
            f"the log was cut: it had {against.records} lines when its head was noted",
            _KEEP,
        )
    return AuditError(
        f"{path}, line {against.records} or before",
        "the log was written anew: its hash at that line is not the one that was noted",
        _KEEP,
    )


def _require_keys(path: Path, walk: Walk, *, keys: Sequence[str]) -> None:
    if not keys:
        return
    for key, line in walk.signers.items():
        if key not in keys:
            raise AuditError(
                f"{path}, line {line}",
                f"the checkpoint is signed by another key, {key}",
                "If the log's owner had that key once, give it with --key, too.",
            )
    if walk.checkpoint is None and walk.end.records:
        raise AuditError(
            str(path),
            "no checkpoint is in it, so nothing in it is signed",
            "Ask the log's owner to close it, which signs it, or wait for the next checkpoint.",
        )
