"""What an audit log takes: events with fields by name, and the receipt, which both ends write."""

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from typing import Any, ClassVar, Final, Protocol, cast

from fedvol.types import Digest, Json

UNNAMED = Digest("")
"""Where there is no message, or none that can be read."""

MAX_FOREIGN_TEXT: Final = 200
"""Characters kept of a text that somebody outside wrote."""


class AuditEvent(Protocol):
    """Something that is worth a line in an audit log."""

    def as_json(self) -> dict[str, Json]:
        """Its kind and every field by name; neither `sequence` nor `time`, which are the log's."""
        ...


class AuditSink(Protocol):
    """Where audit events go."""

    def append(self, event: AuditEvent, /) -> None:
        """Write one event; it is durable when this returns.

        Raises:
            AuditError: It could not be written.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The server's signed word that a contribution was taken into a closed round.

    The server writes it when it gives the receipt, the site when it has checked it.

    Attributes:
        site: Whose contribution it was.
        run: The run it belongs to.
        stage: Index of the stage.
        round: Round of the stage.
        message: Digest of the message that carried the contribution.
        receipt: Digest of the receipt itself.
    """

    kind: ClassVar[str] = "receipt"

    site: str
    run: str
    stage: int
    round: int
    message: Digest
    receipt: Digest

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


def event_json(event: _Dataclass, *, kind: str, foreign: Sequence[str] = ()) -> dict[str, Json]:
    """Kind and fields of an event that is a dataclass, as JSON.

    Args:
        event: The event.
        kind: Its kind.
        foreign: Fields that hold what somebody outside wrote: cut, so that nobody fills a disk.
    """
    said = {field.name: _plain(getattr(event, field.name)) for field in fields(event)}
    cut: dict[str, Json] = {
        name: f"{value[:MAX_FOREIGN_TEXT]}…"
        for name in foreign
        if isinstance(value := said[name], str) and len(value) > MAX_FOREIGN_TEXT
    }
    return {"kind": kind, **said, **cut}


def _plain(value: object) -> Json:
    match value:
        case bool() | int() | float() | None:
            return value
        case str():
            # Half of a surrogate pair has no bytes in UTF-8, and a line must never fail for that.
            return value.encode("utf-8", "replace").decode()
        case tuple() | list():
            return [_plain(item) for item in cast("Sequence[object]", value)]
        case _:
            raise TypeError(f"an audit event holds {type(value).__name__}")
