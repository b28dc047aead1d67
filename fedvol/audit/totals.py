"""`Totals`: what left the building, summed over the lines of a log."""

from dataclasses import dataclass, field
from datetime import datetime

from fedvol.audit.chain import LogLine
from fedvol.types import Json


def has_left(event: dict[str, Json]) -> bool:
    """Whether a line tells of something that left: it alone names a recipient.

    So a kind of contribution that this version does not know is counted, too.
    """
    return "recipient" in event


@dataclass(slots=True)
class Sent:
    """Contributions of one kind.

    Attributes:
        num: How many.
        num_tensors: Tensors in them.
        size_bytes: Bytes of tensors and values.
    """

    num: int = 0
    num_tensors: int = 0
    size_bytes: int = 0


@dataclass(slots=True)
class Totals:
    """What left the building.

    Attributes:
        by_kind: Contributions of each kind.
        recipients: To whom they went, each with the fingerprint of its key.
        consents: Under which consents.
        num_without_consent: Contributions that name none.
        first: Time of the first.
        last: Time of the last.
    """

    by_kind: dict[str, Sent] = field(default_factory=dict[str, Sent])
    recipients: set[str] = field(default_factory=set[str])
    consents: set[str] = field(default_factory=set[str])
    num_without_consent: int = 0
    first: datetime | None = None
    last: datetime | None = None

    def add(self, line: LogLine) -> None:
        """Count a line, if it tells of something that left."""
        event = line.event
        if not has_left(event):
            return
        sent = self.by_kind.setdefault(str(event.get("kind")), Sent())
        sent.num += 1
        sent.num_tensors += _whole(event, "num_tensors")
        sent.size_bytes += _whole(event, "size_bytes")
        key = event.get("recipient_key")
        self.recipients.add(f"{event['recipient']} ({key})" if key else str(event["recipient"]))
        if consent := event.get("consent"):
            self.consents.add(str(consent))
        else:
            self.num_without_consent += 1
        self.first, self.last = self.first or line.time, line.time

    @property
    def all(self) -> Sent:
        """All kinds together."""
        kinds = self.by_kind.values()
        return Sent(
            num=sum(one.num for one in kinds),
            num_tensors=sum(one.num_tensors for one in kinds),
            size_bytes=sum(one.size_bytes for one in kinds),
        )

    def as_json(self) -> dict[str, Json]:
        """Every total by name."""
        by_kind: dict[str, Json] = {kind: _json(one) for kind, one in sorted(self.by_kind.items())}
        return {
            **_json(self.all),
            "by_kind": by_kind,
            "recipients": [*sorted(self.recipients)],
            "consents": [*sorted(self.consents)],
            "num_without_consent": self.num_without_consent,
            "first": self.first.isoformat() if self.first else None,
            "last": self.last.isoformat() if self.last else None,
        }


def _json(sent: Sent) -> dict[str, Json]:
    return {"num": sent.num, "num_tensors": sent.num_tensors, "size_bytes": sent.size_bytes}


def _whole(event: dict[str, Json], name: str) -> int:
    value = event.get(name)
    return value if isinstance(value, int) else 0
