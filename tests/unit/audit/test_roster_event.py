"""A new roster, as the log tells of it."""

from consortium import entry, roster

from fedvol.audit import RosterChange
from fedvol.identity import SiteStatus


def test_the_first_roster_has_everybody_join() -> None:
    new = roster(entry("a"), entry("b", status=SiteStatus.SUSPENDED))
    assert RosterChange.between(None, new) == RosterChange(
        version=1, roster=new.digest, joined=("a",), suspended=("b",)
    )


def test_who_came_changed_keys_paused_and_went() -> None:
    old = roster(
        entry("back", status=SiteStatus.SUSPENDED),
        *(entry(name) for name in ("gone", "paused", "rekeyed", "same", "stolen")),
    )
    new = roster(
        *(entry(name) for name in ("back", "new", "same")),
        entry("paused", status=SiteStatus.SUSPENDED),
        entry("rekeyed", keys="other"),
        entry("stolen", status=SiteStatus.REVOKED),
        version=2,
    )
    assert RosterChange.between(old, new) == RosterChange(
        version=2,
        roster=new.digest,
        joined=("back", "new"),
        rekeyed=("rekeyed",),
        suspended=("paused",),
        revoked=("gone", "stolen"),
    )
