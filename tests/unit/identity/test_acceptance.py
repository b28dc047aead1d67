"""Only a roster of the pinned root, in its time, and no older than the one held, is accepted."""

import json
from datetime import datetime, timedelta

import pytest
from consortium import DAY, NOW, ROOT, entry, identity, roster

from fedvol.errors import (
    IdentityError,
    RosterConflictError,
    RosterDuplicateError,
    RosterError,
    RosterExpiredError,
    RosterNotYetValidError,
    RosterOutdatedError,
    RosterRootError,
    SignatureError,
)
from fedvol.identity import Roster, ServerEntry, SignedBody, SignedRoster, SiteStatus, Tag, accept
from fedvol.identity.documents import write_document

SECOND = timedelta(seconds=1)
SIGNED = SignedRoster.sign(roster(), root=ROOT).to_bytes()


def _accept(new: Roster | bytes, *, held: Roster | None = None, now: datetime = NOW) -> Roster:
    data = new if isinstance(new, bytes) else SignedRoster.sign(new, root=ROOT).to_bytes()
    parsed = SignedRoster.parse(data, where="here")
    return accept(parsed, root=ROOT.public, held=held, now=now, where="here")


def test_the_roots_roster_is_accepted() -> None:
    assert _accept(SIGNED) == roster()
    assert _accept(SIGNED, held=roster()) == roster()
    assert _accept(roster(version=7), held=roster()).version == 7


def test_revocation_is_a_new_version() -> None:
    gone = roster(entry("site-a", status=SiteStatus.REVOKED), entry("site-b"), version=2)
    held = _accept(gone, held=roster())
    assert held.entry("site-a").status is SiteStatus.REVOKED
    with pytest.raises(RosterOutdatedError):
        _accept(SIGNED, held=held)


def test_another_root_is_refused() -> None:
    other = SignedRoster.sign(roster(version=9), root=identity("thief")).to_bytes()
    with pytest.raises(RosterRootError, match=identity("thief").public.fingerprint):
        _accept(other, held=roster())


def test_another_roots_signature_under_our_roots_name_is_refused() -> None:
    body = json.loads(SignedRoster.sign(roster(), root=identity("thief")).to_bytes())
    with pytest.raises(SignatureError):
        _accept(SignedBody(**{**body, "signer": ROOT.public}).to_bytes())


@pytest.mark.parametrize("tag", [tag for tag in Tag if tag is not Tag.ROSTER])
def test_what_the_root_signed_for_another_purpose_is_refused(tag: Tag) -> None:
    text = write_document(roster()).decode()
    with pytest.raises(SignatureError):
        _accept(SignedBody.sign(ROOT, tag, text).to_bytes())


def test_every_changed_byte_is_refused() -> None:
    for at in range(len(SIGNED)):
        changed = bytearray(SIGNED)
        changed[at] ^= 0x01
        with pytest.raises((RosterError, SignatureError)):
            _accept(bytes(changed))


def test_every_cut_is_refused() -> None:
    for at in range(len(SIGNED)):
        with pytest.raises(RosterError):
            _accept(SIGNED[:at])
    with pytest.raises(RosterError):
        _accept(SIGNED + b"\n")


CHANGED = {
    "consortium": roster(consortium="Five Hospitals"),
    "version": roster(version=2),
    "not_before": roster(not_before=NOW - 2 * DAY),
    "not_after": roster(not_after=NOW + 2 * DAY),
    "server": roster(server=ServerEntry(identity=identity("thief").public)),
    "site added": roster(entry("site-a"), entry("site-b"), entry("site-c")),
    "site left out": roster(entry("site-a")),
    "keys": roster(entry("site-a"), entry("site-b", keys="thief")),
    "status": roster(entry("site-a"), entry("site-b", status=SiteStatus.SUSPENDED)),
}


@pytest.mark.parametrize("field", CHANGED)
def test_every_changed_field_is_refused(field: str) -> None:
    body = json.loads(SIGNED)
    text = write_document(CHANGED[field]).decode()
    with pytest.raises(SignatureError):
        _accept(SignedBody(**{**body, "payload": text}).to_bytes())


def test_an_older_version_is_refused() -> None:
    with pytest.raises(RosterOutdatedError, match="its version is 4, and version 5 is held"):
        _accept(roster(version=4), held=roster(version=5))


@pytest.mark.parametrize(
    "field", [field for field in CHANGED if field not in ("version", "consortium")]
)
def test_two_rosters_of_one_version_are_refused(field: str) -> None:
    with pytest.raises(RosterConflictError, match="both are version 1"):
        _accept(CHANGED[field], held=roster())


def test_another_consortium_of_the_same_root_is_refused() -> None:
    with pytest.raises(RosterError, match="another consortium"):
        _accept(roster(consortium="Five Hospitals", version=2), held=roster())


@pytest.mark.parametrize("held", [None, roster()])
def test_time_is_kept_to_the_second(held: Roster | None) -> None:
    begins, ends = NOW - DAY, NOW + DAY
    assert _accept(SIGNED, held=held, now=begins)
    assert _accept(SIGNED, held=held, now=ends - SECOND)
    with pytest.raises(RosterNotYetValidError, match="2026-05-31T11:59:59Z"):
        _accept(SIGNED, held=held, now=begins - SECOND)
    with pytest.raises(RosterExpiredError, match="2026-06-02T12:00:00Z"):
        _accept(SIGNED, held=held, now=ends)


def test_a_signed_text_that_is_no_roster_is_refused() -> None:
    for text in ("", "{}", "[]", write_document(roster()).decode() + " "):
        with pytest.raises(RosterError):
            _accept(SignedBody.sign(ROOT, Tag.ROSTER, text).to_bytes())


def test_a_roster_with_duplicates_is_refused_though_signed() -> None:
    text = write_document(roster()).decode()
    text = text.replace(entry("site-b").node.hex, entry("site-a").node.hex)
    with pytest.raises(RosterDuplicateError):
        _accept(SignedBody.sign(ROOT, Tag.ROSTER, text).to_bytes())


@pytest.mark.parametrize(
    "with_root",
    [
        roster(entry("site-a"), entry("site-b", keys="root")),
        roster(server=ServerEntry(identity=ROOT.public)),
    ],
)
def test_the_roots_key_is_nobody_elses(with_root: Roster) -> None:
    with pytest.raises(RosterDuplicateError, match="the root's own key"):
        SignedRoster.sign(with_root, root=ROOT)
    text = write_document(with_root).decode()
    with pytest.raises(RosterDuplicateError, match="the root's own key"):
        _accept(SignedBody.sign(ROOT, Tag.ROSTER, text).to_bytes())


def test_a_huge_file_is_not_parsed() -> None:
    with pytest.raises(RosterError, match="larger than"):
        SignedRoster.parse(b"[" * (1 << 21), where="here")


def test_every_refusal_has_a_code_of_its_own() -> None:
    kinds = [
        SignatureError, RosterError, RosterRootError, RosterOutdatedError, RosterConflictError,
        RosterExpiredError, RosterNotYetValidError, RosterDuplicateError,
    ]  # fmt: skip
    codes = {kind.code for kind in kinds}
    assert len(codes) == len(kinds)
    assert all(issubclass(kind, IdentityError) and kind.exit_status == 6 for kind in kinds)
