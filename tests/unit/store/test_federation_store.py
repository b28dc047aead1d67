"""Who takes part and what was agreed, in one database."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedvol.errors import (
    ConsentRefusedError,
    InvitationUsedError,
    ProposalUnknownError,
    RosterDuplicateError,
    RosterOutdatedError,
    RunRequestError,
    UsageError,
)
from fedvol.store import (
    AnswerRecord,
    ConsentRecord,
    ContributionKey,
    Decision,
    FederationStore,
    InvitationRecord,
    ProposalRecord,
    Role,
    RosterEntry,
    RunStore,
    SiteKeysRecord,
    SiteStanding,
    Wanted,
    open_engine,
)
from fedvol.types import Digest, RunId, SiteId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NORTH, SOUTH = SiteId("north"), SiteId("south")
RUN = RunId("liver-1")
KEYS = {
    NORTH: SiteKeysRecord(identity="aa", node="0a"),
    SOUTH: SiteKeysRecord(identity="bb", node="0b"),
}


@pytest.fixture
def held(database: str | Path) -> Iterator[FederationStore]:
    store = FederationStore(open_engine(database), now=lambda: NOW)
    yield store
    store.close()


def admit(record: InvitationRecord | None) -> datetime:
    assert record is not None
    if record.used is not None:
        raise InvitationUsedError("site", "used", "No.")
    return NOW


def enrol(held: FederationStore, site: SiteId, keys: SiteKeysRecord, *, token: str = "t") -> None:
    held.sites.enrol(site, keys=keys, software="0.1.0", token_digest=token + site, admit=admit)


def invite(held: FederationStore, site: SiteId, *, token: str = "t") -> None:
    held.sites.invite(site, token_digest=token + site, expires=NOW + timedelta(days=7), by="ada")


def put_roster(held: FederationStore, version: int, *sites: SiteId, **status: SiteStanding) -> None:
    entries = [
        RosterEntry(site=site, status=status.get(site, SiteStanding.ACTIVE), keys=KEYS[site])
        for site in sites
    ]
    held.sites.put_roster(version, content=b"roster %d" % version, entries=entries, by="ada")


def propose(held: FederationStore, *sites: SiteId) -> None:
    held.agreements.propose(
        ProposalRecord(
            id=RUN,
            kind="run",
            run=RUN,
            plan_digest=Digest("0" * 64),
            sites=sites or (NORTH, SOUTH),
            content=b"signed",
            created=NOW,
            created_by="ada",
        )
    )


def say(held: FederationStore, site: SiteId, decision: Decision, *, after_s: int = 0) -> None:
    held.agreements.consent(
        ConsentRecord(
            proposal=RUN,
            site=site,
            decision=decision,
            reason="",
            signed=f"{site} {decision} {after_s}".encode(),
            said=NOW + timedelta(seconds=after_s),
        )
    )


def test_a_user_is_known_by_the_token_alone(held: FederationStore, tmp_path: Path) -> None:
    held.people.add("ada", role=Role.OPERATOR, token="secret-token-of-ada")
    found = held.people.user_of("secret-token-of-ada")
    assert found is not None
    assert (found.name, found.role, found.removed) == ("ada", Role.OPERATOR, None)
    assert held.people.user_of("secret-token-of-bob") is None
    held.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("server.db*"))
    assert b"secret-token" not in stored


def test_a_removed_user_is_let_in_no_more_and_the_name_stays_theirs(held: FederationStore) -> None:
    held.people.add("ada", role=Role.OPERATOR, token="1")
    held.people.add("bob", role=Role.OBSERVER, token="2")
    held.people.remove("bob")
    assert held.people.user_of("2") is None
    with pytest.raises(UsageError, match="is, or was"):
        held.people.add("bob", role=Role.OBSERVER, token="3")
    with pytest.raises(UsageError, match="no such user"):
        held.people.remove("bob")
    with pytest.raises(UsageError, match="last operator"):
        held.people.remove("ada")


def test_actions_are_kept_in_order(held: FederationStore) -> None:
    for subject in ("north", "south"):
        held.people.record(user="ada", action="invite", subject=subject, outcome="done")
    assert [one.subject for one in held.people.actions()] == ["north", "south"]
    assert [one.subject for one in held.people.actions(last=1)] == ["south"]


def test_how_an_action_ended_is_said_later(held: FederationStore) -> None:
    first, _ = (
        held.people.record(user="ada", action="invite", subject=subject, outcome="begun")
        for subject in ("north", "south")
    )
    held.people.settle(first, outcome="done")
    assert [one.outcome for one in held.people.actions()] == ["done", "begun"]


def test_a_site_joins_when_the_root_has_signed(held: FederationStore) -> None:
    invite(held, NORTH)
    enrol(held, NORTH, KEYS[NORTH])
    waiting = held.sites.site(NORTH)
    assert waiting is not None
    assert (waiting.status, waiting.keys, waiting.next_keys) == (
        SiteStanding.ENROLLED,
        None,
        KEYS[NORTH],
    )
    assert not waiting.is_active
    put_roster(held, 1, NORTH)
    joined = held.sites.site(NORTH)
    assert joined is not None
    assert (joined.is_active, joined.keys, joined.next_keys) == (True, KEYS[NORTH], None)
    assert held.sites.roster() == b"roster 1"


def test_a_token_is_used_once_and_a_lost_answer_is_given_again(held: FederationStore) -> None:
    invite(held, NORTH)
    enrol(held, NORTH, KEYS[NORTH])
    enrol(held, NORTH, KEYS[NORTH])
    with pytest.raises(InvitationUsedError):
        enrol(held, NORTH, SiteKeysRecord(identity="cc", node="0c"))
    site = held.sites.site(NORTH)
    assert site is not None
    assert site.next_keys == KEYS[NORTH]


def test_a_refused_enrolment_leaves_the_token(held: FederationStore) -> None:
    for site in (NORTH, SOUTH):
        invite(held, site)
    enrol(held, NORTH, KEYS[NORTH])
    with pytest.raises(RosterDuplicateError, match="north"):
        enrol(held, SOUTH, SiteKeysRecord(identity="aa", node="0b"))
    enrol(held, SOUTH, KEYS[SOUTH])


def test_an_invitation_replaces_an_unused_one(held: FederationStore) -> None:
    invite(held, NORTH, token="old")
    invite(held, NORTH, token="new")
    assert [one.token_digest for one in held.sites.invitations()] == ["newnorth"]
    enrol(held, NORTH, KEYS[NORTH], token="new")
    with pytest.raises(UsageError, match="case"):
        invite(held, SiteId("North"))


def test_new_keys_wait_while_the_old_ones_go_on(held: FederationStore) -> None:
    put_roster(held, 1, NORTH)
    invite(held, NORTH)
    newer = SiteKeysRecord(identity="cc", node="0c")
    enrol(held, NORTH, newer)
    site = held.sites.site(NORTH)
    assert site is not None
    assert (site.is_active, site.keys, site.next_keys) == (True, KEYS[NORTH], newer)


def test_what_is_stricter_holds(held: FederationStore) -> None:
    put_roster(held, 1, NORTH, SOUTH)
    assert not held.sites.want(NORTH, SiteStanding.SUSPENDED).is_active
    assert held.sites.want(NORTH, SiteStanding.ACTIVE).is_active
    put_roster(held, 2, NORTH, SOUTH, north=SiteStanding.REVOKED)
    revoked = held.sites.site(NORTH)
    assert revoked is not None
    assert revoked.wanted is SiteStanding.REVOKED  # the next draft does not bring it back
    put_roster(held, 3, NORTH)
    gone = held.sites.site(SOUTH)
    assert gone is not None
    assert gone.status is SiteStanding.REVOKED
    with pytest.raises(RosterOutdatedError):
        put_roster(held, 2, NORTH)


def test_a_site_that_never_joined_is_forgotten(held: FederationStore) -> None:
    invite(held, NORTH)
    enrol(held, NORTH, KEYS[NORTH])
    held.sites.want(NORTH, SiteStanding.REVOKED)
    assert held.sites.sites() == ()
    with pytest.raises(UsageError, match="no such site"):
        held.sites.want(NORTH, SiteStanding.ACTIVE)


def test_the_last_word_counts(held: FederationStore) -> None:
    propose(held)
    say(held, SOUTH, Decision.APPROVE)
    say(held, NORTH, Decision.APPROVE)
    assert held.agreements.consenting(RUN) == (NORTH, SOUTH)
    say(held, NORTH, Decision.WITHDRAW, after_s=2)
    assert held.agreements.consenting(RUN) == (SOUTH,)
    with pytest.raises(ConsentRefusedError, match="later word"):
        say(held, NORTH, Decision.APPROVE, after_s=1)
    say(held, NORTH, Decision.APPROVE, after_s=3)
    say(held, NORTH, Decision.APPROVE, after_s=3)  # the same again
    assert held.agreements.consenting(RUN) == (NORTH, SOUTH)


def test_consent_to_what_was_not_proposed(held: FederationStore) -> None:
    propose(held, NORTH)
    with pytest.raises(ProposalUnknownError):
        say(held, SOUTH, Decision.APPROVE)
    held.agreements.want(RUN, Wanted.ENDED, by="", reason="over")
    with pytest.raises(ConsentRefusedError, match="ended"):
        say(held, NORTH, Decision.APPROVE)


def test_what_is_wanted_of_a_run(held: FederationStore, database: str | Path) -> None:
    propose(held)
    with pytest.raises(RunRequestError, match="one of this name"):
        propose(held)
    with pytest.raises(RunRequestError, match="it is proposed, so it cannot become paused"):
        held.agreements.want(RUN, Wanted.PAUSED, by="ada")
    held.agreements.want(RUN, Wanted.STARTED, by="ada")
    held.agreements.want(RUN, Wanted.PAUSED, by="bob", reason="maintenance")
    request = held.agreements.request(RUN)
    assert request is not None
    assert (request.wanted, request.by, request.reason) == (Wanted.PAUSED, "bob", "maintenance")
    held.agreements.want(RUN, Wanted.STOPPED, by="bob")
    with pytest.raises(RunRequestError):
        held.agreements.want(RUN, Wanted.STARTED, by="ada")
    held.agreements.want(RUN, Wanted.ENDED, by="")
    with pytest.raises(RunRequestError):
        held.agreements.want(RUN, Wanted.STARTED, by="ada")
    RunStore(open_engine(database)).close()  # their tables are in the same database
    assert held.agreements.resume(RUN, by="ada").wanted is Wanted.STARTED
    assert held.agreements.resume(RUN, by="ada").wanted is Wanted.STARTED
    held.agreements.want(RUN, Wanted.STOPPED, by="bob")
    with pytest.raises(RunRequestError):
        held.agreements.resume(RUN, by="ada")
    with pytest.raises(RunRequestError, match="no such run"):
        held.agreements.want(RunId("other"), Wanted.STARTED, by="ada")


def test_answers_and_receipts(held: FederationStore) -> None:
    key = ContributionKey(run=RUN, stage=0, round=1, site=NORTH)
    assert held.agreements.answer(key) is None
    for digest in ("1" * 64, "2" * 64):
        held.agreements.put_answer(key, AnswerRecord(digest=Digest(digest), tensors=None))
    assert held.agreements.answer(key) == AnswerRecord(digest=Digest("2" * 64), tensors=None)
    held.agreements.put_receipt(key, b"first")
    held.agreements.put_receipt(key, b"second")
    assert held.agreements.receipts(RUN) == {key: b"first"}
