"""A roster has each name and key once; a site takes part only while it is active."""

import json

import pytest
from consortium import NAME, NOW, SERVER, entry, identity, node, roster
from pydantic import ValidationError

from fedvol.errors import (
    RosterDuplicateError,
    RosterError,
    SiteNotActiveError,
    SiteNotInRosterError,
)
from fedvol.identity import ServerEntry, SiteEntry, SiteStatus
from fedvol.identity.documents import write_document
from fedvol.identity.roster import MAX_SITES, MAX_VERSION, parse_roster
from fedvol.plan import digest_json


def _entry(site: str, *, identity_of: str, node_of: str) -> SiteEntry:
    return SiteEntry(
        site=site,
        identity=identity(identity_of).public,
        node=node(node_of).public,
        status=SiteStatus.ACTIVE,
    )


def test_sites_stand_in_order_whatever_order_they_came_in() -> None:
    one, other = roster(entry("b"), entry("a")), roster(entry("a"), entry("b"))
    assert [found.site for found in one.sites] == ["a", "b"]
    assert one == other
    assert one.digest == other.digest


def test_digest_is_that_of_the_canonical_json() -> None:
    text = write_document(roster()).decode()
    assert roster().digest == digest_json(json.loads(text))
    assert parse_roster(text, where="here") == roster()
    assert roster(version=2).digest != roster().digest


def test_an_active_site_takes_part() -> None:
    assert roster().require_active("site-a") == entry("site-a")


@pytest.mark.parametrize("status", [SiteStatus.SUSPENDED, SiteStatus.REVOKED])
def test_a_site_that_is_not_active_does_not(status: SiteStatus) -> None:
    held = roster(entry("site-a", status=status), entry("site-b"))
    assert held.entry("site-a").status is status
    with pytest.raises(SiteNotActiveError, match=f"it is {status} in roster 1"):
        held.require_active("site-a")
    assert held.require_active("site-b")


@pytest.mark.parametrize("site", ["site-c", "SITE-A", "", "site-a "])
def test_a_site_that_is_not_listed_does_not(site: str) -> None:
    with pytest.raises(SiteNotInRosterError):
        roster().require_active(site)
    with pytest.raises(SiteNotInRosterError):
        roster().entry(site)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (entry("site-a", keys="x"), "site site-a and site site-a have the same name"),
        (entry("SITE-A", keys="x"), "site SITE-A and site site-a have the same name"),
        (
            _entry("site-z", identity_of="site-a", node_of="x"),
            "site site-a and site site-z have the same identity key",
        ),
        (
            _entry("site-z", identity_of="x", node_of="site-a"),
            "site site-a and site site-z have the same node key",
        ),
        (
            _entry("site-z", identity_of="server", node_of="x"),
            "the server and site site-z have the same identity key",
        ),
    ],
)
def test_a_name_or_key_that_stands_twice_is_refused(other: SiteEntry, told: str) -> None:
    with pytest.raises(RosterDuplicateError, match=told):
        roster(entry("site-a"), other)


def test_a_revoked_key_does_not_come_back_under_another_name() -> None:
    gone = entry("site-a", status=SiteStatus.REVOKED)
    with pytest.raises(RosterDuplicateError):
        roster(gone, entry("site-n", keys="site-a"))


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 0},
        {"version": MAX_VERSION + 1},
        {"version": True},
        {"not_after": NOW, "not_before": NOW},
        {"consortium": ""},
        {"consortium": " x"},
        {"consortium": "x\ny"},
        {"consortium": "x\x1b[2Jy"},
        {"consortium": "x\u202ey"},
        {"consortium": "x" * 101},
        {"format": "fedvol.roster/2"},
        {"sites": tuple(entry(f"s{number}") for number in range(MAX_SITES + 1))},
    ],
    ids=lambda changed: "".join(f"{key}={str(value)[:12]!r}" for key, value in changed.items()),
)
def test_what_is_no_roster_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        roster(**changed)


@pytest.mark.parametrize("name", [NAME, "x", "Überregionaler Verbund (Süd)", "四家医院"])
def test_a_consortium_is_named_as_people_write(name: str) -> None:
    assert roster(consortium=name).consortium == name


@pytest.mark.parametrize("site", ["", "a b", "../a", "-a", "a" * 65, "ä", "a\n"])
def test_a_site_is_named_as_in_a_study(site: str) -> None:
    with pytest.raises(ValidationError):
        entry(site, keys="x")


def test_a_malformed_roster_is_told_though_signed() -> None:
    text = write_document(roster()).decode().replace('"version":1', '"version":"Mustermann"')
    with pytest.raises(RosterError, match="its field version is wrong") as caught:
        parse_roster(text, where="here")
    assert "Mustermann" not in str(caught.value)


def test_a_roster_without_sites_is_one() -> None:
    empty = roster(sites=(), server=ServerEntry(identity=SERVER.public))
    assert empty.sites == ()
