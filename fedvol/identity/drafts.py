"""`RosterDraft`: what an operator asks the root to sign, and the roster that comes of it."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from fedvol.config.base import Section
from fedvol.errors import RosterError, UsageError
from fedvol.identity.acceptance import MAX_ROSTER_BYTES
from fedvol.identity.documents import read_draft, read_file
from fedvol.identity.moments import CLOCK_SLACK, write_moment
from fedvol.identity.roster import (
    Consortium,
    Roster,
    ServerEntry,
    SiteEntry,
    Sites,
    SiteStatus,
    malformed_roster,
    require_distinct,
)


class RosterDraft(Section):
    """A roster without version and time, which are the root's to set.

    Raises:
        RosterDuplicateError: A name or a key stands in it twice.
    """

    format: Literal["fedvol.roster-draft/1"] = "fedvol.roster-draft/1"
    """Version of this schema."""
    consortium: Consortium
    """Whose roster it is to be."""
    server: ServerEntry
    """The one server."""
    sites: Sites
    """Every site, the suspended and revoked ones too."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require_distinct(self.consortium, server=self.server, sites=self.sites)
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a draft; it may be spelled freely, because nobody signed it.

        Raises:
            RosterError: It is absent or malformed.
            RosterDuplicateError: A name or a key stands in it twice.
        """
        try:
            return read_draft(
                cls, read_file(path, limit_bytes=MAX_ROSTER_BYTES), limit_bytes=MAX_ROSTER_BYTES
            )
        except ValueError as error:
            raise malformed_roster(str(path), str(error)) from error

    @classmethod
    def revoking(cls, site: str, *, last: Roster) -> Self:
        """The last roster with one site revoked.

        Raises:
            SiteNotInRosterError: It does not list the site.
            UsageError: The site is revoked already.
        """
        entry = last.entry(site)
        if entry.status is SiteStatus.REVOKED:
            raise UsageError(
                f"site {site}",
                f"roster {last.version}, the last one, has it as revoked already",
                "Hand out that roster.",
            )
        revoked = SiteEntry(
            site=entry.site, identity=entry.identity, node=entry.node, status=SiteStatus.REVOKED
        )
        others = tuple(other for other in last.sites if other.site != site)
        return cls(consortium=last.consortium, server=last.server, sites=(*others, revoked))


def next_roster(
    draft: RosterDraft, *, consortium: str, last: Roster | None, now: datetime, days: int
) -> Roster:
    """The roster to sign next.

    Args:
        draft: What it is to say.
        consortium: The root's own consortium.
        last: The roster signed last; absent before the first.
        now: The time, with its zone.
        days: How long it is to hold.

    Raises:
        RosterError: The draft is of another consortium, or the clock is behind the last roster's.
    """
    if draft.consortium != consortium:
        raise RosterError(
            "draft of a roster",
            f"it is for another consortium than the root's, {consortium}",
            "Name the draft, or the root's folder, that belong together.",
        )
    if last is not None and now < last.not_before:
        raise RosterError(
            f"roster {last.version + 1} of {consortium}",
            f"the clock here says {write_moment(now)}, and the roster before it was signed later",
            "Set this machine's clock.",
        )
    return Roster(
        consortium=consortium,
        version=last.version + 1 if last else 1,
        not_before=now - CLOCK_SLACK,
        not_after=now + timedelta(days=days),
        server=draft.server,
        sites=draft.sites,
    )
