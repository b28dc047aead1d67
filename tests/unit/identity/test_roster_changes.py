"""What the person who signs is shown."""

import pytest
from consortium import SERVER, entry, identity, roster

from fedvol.identity import Change, ChangeKind, Roster, ServerEntry, SiteStatus, roster_changes
from fedvol.identity.roster import SiteEntry

BEFORE = roster(
    entry("a"),
    entry("s", status=SiteStatus.SUSPENDED),
    entry("r", status=SiteStatus.REVOKED),
)


def _changes(old: Roster | None, *sites: SiteEntry) -> list[tuple[str, str, str]]:
    found = roster_changes(old, server=BEFORE.server, sites=sites)
    return [(change.kind, change.site, change.fingerprint) for change in found]


def test_nothing() -> None:
    assert _changes(BEFORE, *BEFORE.sites) == []


def test_the_first_roster_shows_everybody() -> None:
    suspended = entry("s", status=SiteStatus.SUSPENDED)
    assert _changes(None, entry("a"), suspended) == [
        ("server", "", SERVER.public.fingerprint),
        ("joined", "a", entry("a").fingerprint),
        ("joined", "s", suspended.fingerprint),
        ("suspended", "s", ""),
    ]


@pytest.mark.parametrize(
    ("new", "kinds"),
    [
        (entry("a", status=SiteStatus.SUSPENDED), ["suspended"]),
        (entry("a", status=SiteStatus.REVOKED), ["revoked"]),
        (entry("a", keys="x"), ["rekeyed"]),
        (entry("a", keys="x", status=SiteStatus.REVOKED), ["rekeyed", "revoked"]),
        (entry("s"), ["reinstated"]),
        (entry("r"), ["reinstated"]),
        (entry("r", keys="x"), ["rekeyed", "reinstated"]),
        (entry("s", status=SiteStatus.REVOKED), ["revoked"]),
        (entry("r", status=SiteStatus.SUSPENDED), ["suspended"]),
        (entry("new"), ["joined"]),
    ],
)
def test_of_one_site(new: SiteEntry, kinds: list[str]) -> None:
    others = [one for one in BEFORE.sites if one.site != new.site]
    found = _changes(BEFORE, new, *others)
    assert [kind for kind, _, _ in found] == kinds
    assert {site for _, site, _ in found} == {new.site}
    shown = {kind: fingerprint for kind, _, fingerprint in found}
    for kind in ("joined", "rekeyed"):
        assert shown.get(kind, new.fingerprint) == new.fingerprint


def test_one_changed_key_of_two_is_enough() -> None:
    for field in ("identity", "node"):
        changed = entry("a").model_copy(update={field: getattr(entry("x"), field)})
        assert _changes(roster(entry("a")), changed) == [("rekeyed", "a", changed.fingerprint)]


def test_a_site_left_out() -> None:
    assert _changes(BEFORE, entry("a")) == [("removed", "r", ""), ("removed", "s", "")]


def test_another_server() -> None:
    server = ServerEntry(identity=identity("other").public)
    (change,) = roster_changes(BEFORE, server=server, sites=BEFORE.sites)
    assert change == Change(
        kind=ChangeKind.SERVER, site="", fingerprint=identity("other").public.fingerprint
    )


def test_in_words() -> None:
    said = {
        kind: str(Change(kind=kind, site="" if kind is ChangeKind.SERVER else "site-a"))
        for kind in ChangeKind
    }
    assert said[ChangeKind.SERVER] == "A new key signs for the server from now on."
    assert said[ChangeKind.JOINED] == "site-a joins."
    assert said[ChangeKind.REVOKED] == "site-a is revoked."
    assert len(set(said.values())) == len(ChangeKind)
    shown = Change(kind=ChangeKind.JOINED, site="site-a", fingerprint="ab cd")
    assert str(shown) == "site-a joins. Fingerprint: ab cd"
