"""What a new roster changes against the last one, in words that the person who signs can judge."""

from dataclasses import dataclass
from enum import StrEnum

from fedvol.identity.keys import PublicKey
from fedvol.identity.roster import Roster, ServerEntry, SiteEntry, SiteStatus


class ChangeKind(StrEnum):
    """One kind of change."""

    SERVER = "server"
    """The server is named for the first time, or has another key."""
    JOINED = "joined"
    """A site is new."""
    REKEYED = "rekeyed"
    """A site has another identity or node key."""
    SUSPENDED = "suspended"
    """A site may take no part for now."""
    REVOKED = "revoked"
    """A site may take no part; its keys may be in other hands."""
    REINSTATED = "reinstated"
    """A site that was suspended or revoked may take part again."""
    REMOVED = "removed"
    """A site is listed no more, and may take no part."""


_WORDS = {
    ChangeKind.SERVER: "signs for the server from now on",
    ChangeKind.JOINED: "joins",
    ChangeKind.REKEYED: "has new keys; the old ones hold no more",
    ChangeKind.SUSPENDED: "is suspended",
    ChangeKind.REVOKED: "is revoked",
    ChangeKind.REINSTATED: "takes part again",
    ChangeKind.REMOVED: "is listed no more, and takes no part",
}
_STATUS = {
    SiteStatus.ACTIVE: ChangeKind.REINSTATED,
    SiteStatus.SUSPENDED: ChangeKind.SUSPENDED,
    SiteStatus.REVOKED: ChangeKind.REVOKED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change.

    Attributes:
        kind: What it is.
        site: The site concerned; empty for the server.
        fingerprint: Of the keys that count from now on, to be compared with their owner; empty
            where no key changes.
    """

    kind: ChangeKind
    site: str
    fingerprint: str = ""

    def __str__(self) -> str:
        words = f"{self.site or 'A new key'} {_WORDS[self.kind]}."
        return f"{words} Fingerprint: {self.fingerprint}" if self.fingerprint else words


def roster_changes(
    old: Roster | None, *, server: ServerEntry, sites: tuple[SiteEntry, ...]
) -> tuple[Change, ...]:
    """What changes if these take the place of the old roster: the server first, sites by name.

    Args:
        old: The roster signed last; absent before the first.
        server: The server of the new one.
        sites: The sites of the new one.
    """
    before = {entry.site: entry for entry in old.sites} if old else {}
    after = {entry.site: entry for entry in sites}
    changes = _server_changes(old.server.identity if old else None, server.identity)
    for site in sorted(before.keys() | after.keys()):
        changes += _site_changes(before.get(site), after.get(site))
    return tuple(changes)


def _server_changes(old: PublicKey | None, new: PublicKey) -> list[Change]:
    if old == new:
        return []
    return [Change(kind=ChangeKind.SERVER, site="", fingerprint=new.fingerprint)]


def _site_changes(old: SiteEntry | None, new: SiteEntry | None) -> list[Change]:
    if new is None:
        return [Change(kind=ChangeKind.REMOVED, site=old.site)] if old else []
    changes: list[Change] = []
    if old is None:
        changes.append(_with_keys(ChangeKind.JOINED, new))
    elif (old.identity, old.node) != (new.identity, new.node):
        changes.append(_with_keys(ChangeKind.REKEYED, new))
    if new.status is not (old.status if old else SiteStatus.ACTIVE):
        changes.append(Change(kind=_STATUS[new.status], site=new.site))
    return changes


def _with_keys(kind: ChangeKind, entry: SiteEntry) -> Change:
    return Change(kind=kind, site=entry.site, fingerprint=entry.fingerprint)
