"""`Selection`: which lines of a log somebody wants to see."""

from dataclasses import dataclass
from datetime import UTC, datetime

from fedvol.audit.chain import LogLine
from fedvol.errors import UsageError
from fedvol.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Lines of a log, by three criteria that must all hold.

    Attributes:
        run: Of this run alone; None: of any, and of none.
        since: Not before this time.
        kind: Of this kind alone.
    """

    run: str | None = None
    since: datetime | None = None
    kind: str | None = None

    def wants(self, line: LogLine) -> bool:
        """Whether a line belongs to it."""
        return (
            (self.run is None or line.event.get("run") == self.run)
            and (self.since is None or line.time >= self.since)
            and (self.kind is None or line.event.get("kind") == self.kind)
        )

    def as_json(self) -> dict[str, Json]:
        """Every criterion by name; null where there is none."""
        since = self.since.isoformat() if self.since else None
        return {"run": self.run, "since": since, "kind": self.kind}


def parse_since(text: str) -> datetime:
    """A day or a moment as somebody typed it, ISO 8601; UTC unless it says otherwise.

    Raises:
        UsageError: It is neither.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            "--since", "is no date", "Write it like 2026-01-31 or 2026-01-31T13:00."
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
