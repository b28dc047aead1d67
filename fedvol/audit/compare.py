"""A site's log beside the server's: the same messages, by their digests, told by both ends."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from fedvol.audit.chain import LogLine
from fedvol.audit.events import UNNAMED
from fedvol.audit.server_events import ServerRestored
from fedvol.audit.totals import has_left
from fedvol.audit.verify import LogSummary, verify_log
from fedvol.errors import AuditError, UsageError
from fedvol.types import Digest, Json

_SAID_BY_BOTH: Final = ("run", "plan", "stage", "round", "action", "tensors")
_CLOCKS: Final = timedelta(minutes=5)
"""How far the clocks of site and server may differ; calls are refused beyond that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """The server went on from a backup: its log lacks what it wrote between.

    Attributes:
        backup: Digest of the backup's manifest.
        taken: When the backup was taken.
        restored: When the server was restored from it.
    """

    backup: str
    taken: datetime
    restored: datetime

    @classmethod
    def read(cls, line: LogLine) -> "Restore":
        """From a line of kind `restored`.

        Raises:
            AuditError: It does not say when the backup was taken.
        """
        try:
            taken = datetime.fromisoformat(str(line.event.get("taken")))
        except ValueError as error:
            raise AuditError(
                f"line {line.end.records}",
                "it tells of a restored server, and not when the backup was taken",
                "Ask the log's owner how it came about.",
            ) from error
        return cls(
            backup=str(line.event.get("backup")), taken=taken.astimezone(UTC), restored=line.time
        )

    def covers(self, time: datetime) -> bool:
        """Whether the log lacks what the server did then, if a site's clock was nearly right."""
        return self.taken - _CLOCKS <= time <= self.restored + _CLOCKS

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return {
            "backup": self.backup,
            "taken": self.taken.isoformat(),
            "restored": self.restored.isoformat(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One message as one log tells of it.

    Attributes:
        message: Its digest.
        said: What the log says of it, for those fields that both ends write.
        code: Why it was turned away; empty if it was not.
        contribution: Digest of the contribution in it, where its sender tells of one.
        time: When the line was written.
        restore: Where the server's log lacks it, the restoration that turned the log back behind
            it.
    """

    message: Digest
    said: Mapping[str, Json]
    code: str = ""
    contribution: str = ""
    time: datetime
    restore: Restore | None = None

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        after = self.restore.backup if self.restore else ""
        return {"message": self.message, **self.said, "code": self.code, "after_backup": after}


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """Messages in one direction, as the sender's and the receiver's log tell of them.

    Attributes:
        num_both: Sent and taken.
        not_taken: Sent, but the receiver does not say that it took them. `code` is the receiver's
            reason where it turned one away; the others were lost, or are still on their way.
        never_sent: Taken, but the sender does not say that it sent them: a contradiction.
        not_theirs: Turned away, and not the sender's: somebody else spoke in its name.
        different: What both tell differently: a contradiction.
    """

    num_both: int
    not_taken: tuple[Told, ...]
    never_sent: tuple[Told, ...]
    not_theirs: tuple[Told, ...]
    different: tuple[Told, ...]

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return {
            "num_both": self.num_both,
            "not_taken": [one.as_json() for one in self.not_taken],
            "never_sent": [one.as_json() for one in self.never_sent],
            "not_theirs": [one.as_json() for one in self.not_theirs],
            "different": [one.as_json() for one in self.different],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two logs side by side.

    Attributes:
        site: Whose log is held against the server's.
        site_log: The site's log.
        server_log: The server's.
        contributions: From the site to the server.
        requests: From the server to the site.
        undescribed: Messages of the site whose content no line of its log describes: a
            contradiction.
        receipted: Contributions that the server gave a receipt for, by either log, and does not
            say that it took: a contradiction.
        restores: Backups from which the server went on, as its log says.
    """

    site: str
    site_log: LogSummary
    server_log: LogSummary
    contributions: Crossing
    requests: Crossing
    undescribed: tuple[Told, ...]
    receipted: tuple[Told, ...]
    restores: tuple[Restore, ...]

    @property
    def num_contradictions(self) -> int:
        """Messages of which the two logs cannot both be right."""
        both = (self.contributions, self.requests)
        told = sum(len(one.never_sent) + len(one.different) for one in both)
        return told + len(self.undescribed) + len(self.receipted)

    @property
    def num_after_backup(self) -> int:
        """Those among them that the site told between a backup and the server's restoration."""
        told = (*self.requests.never_sent, *self.receipted)
        return sum(one.restore is not None for one in told)

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return {
            "site": self.site,
            "site_log": self.site_log.as_json(),
            "server_log": self.server_log.as_json(),
            "contributions": self.contributions.as_json(),
            "requests": self.requests.as_json(),
            "undescribed": [one.as_json() for one in self.undescribed],
            "receipted": [one.as_json() for one in self.receipted],
            "restores": [one.as_json() for one in self.restores],
            "contradictions": self.num_contradictions,
            "contradictions_after_backup": self.num_after_backup,
        }


def compare_logs(site_log: Path, server_log: Path) -> Comparison:
    """Verify both logs and hold them against each other.

    A message that went twice, because its sender or receiver was killed meanwhile, is told twice;
    that is no contradiction. What a server forgot that was restored from a backup is one like any:
    it is named as told after that backup, and only the lost server's log can tell it from what
    somebody hides.

    Args:
        site_log: A site's log.
        server_log: The server's, which tells of other sites, too.

    Raises:
        AuditError: One of them does not verify.
        UsageError: The first is not the log of one site.
    """
    ours, theirs = _Told(), _Told()
    ours_verified = verify_log(site_log, take=ours.take)
    theirs_verified = verify_log(server_log, take=theirs.take)
    # What was turned away may have been meant for anybody.
    sites = {
        site
        for (site, kind), told in ours.messages.items()
        if kind == "sent" or (kind == "received" and any(not one.code for one in told))
    }
    if len(sites) != 1:
        named = ", ".join(sorted(sites)) or "none"
        raise UsageError(str(site_log), f"is not the log of one site ({named})", "Give a site's.")
    (site,) = sites
    sent, taken = ours.of(site, "sent"), theirs.of(site, "reply")
    contributions = _cross(sent=sent, received=taken)
    requests = _cross(sent=theirs.of(site, "request"), received=ours.of(site, "received"))
    restores = tuple(theirs.restores)
    return Comparison(
        site=site,
        site_log=ours_verified,
        server_log=theirs_verified,
        contributions=replace(contributions, not_taken=_placed(contributions.not_taken, restores)),
        requests=replace(requests, never_sent=_placed(requests.never_sent, restores)),
        undescribed=tuple(one for one in sent if one.contribution not in ours.contributions),
        receipted=_receipted(ours, theirs, site=site, restores=restores),
        restores=restores,
    )


class _Told:
    """What one log tells of messages, by site and kind."""

    def __init__(self) -> None:
        self.messages: dict[tuple[str, str], list[Told]] = {}
        self.contributions = set[str]()
        self.restores: list[Restore] = []

    def take(self, line: LogLine) -> None:
        event = line.event
        kind = str(event.get("kind"))
        if kind == ServerRestored.kind:
            self.restores.append(Restore.read(line))
            return
        if has_left(event):
            self.contributions.add(str(event.get("digest")))
            return
        if kind in ("reply_taken", "reply_refused"):
            kind = "reply"
        elif kind not in ("sent", "request", "received", "receipt"):
            return
        told = Told(
            message=Digest(str(event.get("message", UNNAMED))),
            said={name: event[name] for name in _SAID_BY_BOTH if name in event},
            code=str(event.get("code", "")),
            contribution=str(event.get("contribution", "")),
            time=line.time,
        )
        self.messages.setdefault((str(event.get("site")), kind), []).append(told)

    def of(self, site: str, kind: str) -> list[Told]:
        return self.messages.get((site, kind), [])


def _cross(*, sent: list[Told], received: list[Told]) -> Crossing:
    named = _by_message(sent)
    taken = _by_message(one for one in received if not one.code)
    refused = _by_message(one for one in received if one.code)
    both = named.keys() & taken.keys()
    return Crossing(
        num_both=len(both),
        not_taken=tuple(
            refused.get(message, one) for message, one in named.items() if message not in taken
        ),
        never_sent=tuple(one for message, one in taken.items() if message not in named),
        not_theirs=tuple(
            one for message, one in refused.items() if message not in named.keys() | taken.keys()
        ),
        different=tuple(
            one
            for message, one in taken.items()
            if message in both and one.said != named[message].said
        ),
    )


def _receipted(
    ours: "_Told", theirs: "_Told", *, site: str, restores: Sequence[Restore]
) -> tuple[Told, ...]:
    """Receipts for what the server does not say that it took, by message."""
    taken = {one.message for one in theirs.of(site, "reply") if not one.code}
    held = _by_message(theirs.of(site, "receipt"))
    forgotten = [one for one in ours.of(site, "receipt") if one.message not in held]
    placed = _by_message(_placed(forgotten, restores))
    return tuple(one for name, one in sorted((held | placed).items()) if name not in taken)


def _placed(told: Iterable[Told], restores: Sequence[Restore]) -> tuple[Told, ...]:
    """What the server's log lacks, each with the restoration that turned the log back behind it."""
    return tuple(
        replace(one, restore=next((each for each in restores if each.covers(one.time)), None))
        for one in told
    )


def _by_message(told: Iterable[Told]) -> dict[Digest, Told]:
    return {one.message: one for one in told if one.message}
