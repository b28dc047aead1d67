"""`RosterChange`: what a new roster changed, as both ends write it down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from fedvol.audit.events import event_json
from fedvol.identity import ChangeKind, Roster, roster_changes
from fedvol.types import Digest, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterChange:
    """A new version of the roster is about to hold: the line stands before it does.

    Attributes:
        version: Its version.
        roster: Its digest.
        joined: Sites that are new or active again.
        rekeyed: Sites that have other keys now.
        suspended: Sites that are suspended now.
        revoked: Sites that are revoked now, or no longer named.
    """

    kind: ClassVar[str] = "roster"

    version: int
    roster: Digest
    joined: Sequence[str] = ()
    rekeyed: Sequence[str] = ()
    suspended: Sequence[str] = ()
    revoked: Sequence[str] = ()

    @classmethod
    def between(cls, old: Roster | None, new: Roster) -> Self:
        """What a roster changes against the one before it, if there was one."""
        changes = roster_changes(old, server=new.server, sites=new.sites)

        def sites(*kinds: ChangeKind) -> tuple[str, ...]:
            return tuple(one.site for one in changes if one.kind in kinds)

        suspended = sites(ChangeKind.SUSPENDED)
        revoked = sites(ChangeKind.REVOKED, ChangeKind.REMOVED)
        new_here = sites(ChangeKind.JOINED, ChangeKind.REINSTATED)
        return cls(
            version=new.version,
            roster=new.digest,
            joined=tuple(site for site in new_here if site not in (*suspended, *revoked)),
            rekeyed=sites(ChangeKind.REKEYED),
            suspended=suspended,
            revoked=revoked,
        )

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)
