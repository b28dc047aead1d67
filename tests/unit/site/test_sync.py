"""Roster and proposals come from the server, and count only as root and server signed them."""

from pathlib import Path

import pytest
from hospital import Server, add_to_config, joined, now, plain_plan, source_toml, syncing
from tiny import Events, tiny_study

from fedvol.errors import NotAdmittedError, RosterOutdatedError, RosterRootError
from fedvol.identity import IdentityKey, SiteStatus
from fedvol.site import Answering, held_roster, pause, resume
from fedvol.site.consent import BY_RULE
from fedvol.store import Decision, SiteStore
from fedvol.store.site import GONE


def test_nothing_before_the_root_signed(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    server.roster = None
    with server.listening(), syncing(held) as sync:
        assert sync.once().roster == 0
        assert not sync.once().is_active


def test_a_proposal_arrives_once(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    server.propose("p1", plain_plan(tiny_study()))
    events = Events()
    with server.listening(), syncing(held, observer=events) as sync:
        assert (sync.once().arrived, sync.once().arrived) == (1, 0)
    with SiteStore(held.store_file) as store:
        (record,) = store.proposals()
    assert (record.id, record.kind, record.state) == ("p1", "run", "open")
    assert record.signer == server.identity.public.hex
    assert held_roster(held) is not None
    (told,) = events.named("proposal.arrived")
    assert told["study"] == "tiny"


def test_what_the_server_lists_no_more_is_gone(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    server.propose("p1", plain_plan(tiny_study()))
    with server.listening(), syncing(held) as sync:
        sync.once()
        server.proposals["p1"]["state"] = "started"
        sync.once()
        with SiteStore(held.store_file) as store:
            assert store.proposals()[0].state == "started"
        server.proposals.clear()
        sync.once()
        with SiteStore(held.store_file) as store:
            assert store.proposals()[0].state == GONE


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"digest": "1" * 64}, "FV-TRAN-001"),
        ({"id": "p2"}, "FV-TRAN-001"),
        ({"plan": {"version": 1}}, "FV-TRAN-001"),
        ({"key": IdentityKey.generate()}, "FV-TRAN-012"),
    ],
)
def test_a_wrong_proposal_is_told_and_left_out(
    tmp_path: Path, changes: dict[str, object], code: str
) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    server.propose("p1", plain_plan(tiny_study()), **changes)
    server.propose("sound", plain_plan(tiny_study()))
    events = Events()
    with server.listening(), syncing(held, observer=events) as sync:
        assert sync.once().arrived == 1
    assert [one["code"] for one in events.named("proposal.refused")] == [code]
    with SiteStore(held.store_file) as store:
        assert [one.id for one in store.proposals()] == ["sound"]


def test_a_proposal_for_others(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    server.propose("p1", plain_plan(tiny_study(), sites=("b",)))
    events = Events()
    with server.listening(), syncing(held, observer=events) as sync:
        assert sync.once().arrived == 0
    assert "does not name this site" in str(events.named("proposal.refused")[0]["what"])


def test_a_roster_of_another_root(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    server.root = IdentityKey.generate()
    server.sign_roster()
    with server.listening(), syncing(held) as sync, pytest.raises(RosterRootError):
        sync.once()
    assert held_roster(held) is None


def test_an_older_roster(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    first = server.roster
    server.sign_roster()
    with server.listening(), syncing(held) as sync:
        assert sync.once().roster == 2
        server.roster = first
        with pytest.raises(RosterOutdatedError):
            sync.once()


def test_a_suspended_site_asks_for_nothing(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    server.sign_roster(status=SiteStatus.SUSPENDED)
    server.propose("p1", plain_plan(tiny_study()))
    with server.listening(), syncing(held) as sync:
        done = sync.once()
    assert (done.is_active, done.arrived) == (False, 0)


def test_a_site_that_the_server_does_not_know(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    server.enrolled.clear()
    with server.listening(), syncing(held) as sync, pytest.raises(NotAdmittedError):
        sync.once()


RULE = '\n[auto_approve]\nenabled = true\nkinds = ["run"]\nstudies = ["tiny"]\n'


def test_the_rule_approves_what_it_names_and_no_more(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    add_to_config(held, RULE + source_toml(tmp_path))
    server.propose("named", plain_plan(tiny_study()))
    server.propose("other", plain_plan(tiny_study(name='name = "other"')))
    with server.listening(), syncing(held) as sync:
        assert sync.once().delivered == 1
    assert [(one["proposal"], one["decision"]) for one in server.consents] == [("named", "approve")]
    with SiteStore(held.store_file) as store:
        answer = store.consent("named")
        assert answer is not None
        assert (answer.decision, answer.by) == (Decision.APPROVE, BY_RULE)
        assert store.consent("other") is None


def test_a_server_that_was_restored_is_told_again(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    add_to_config(held, RULE + source_toml(tmp_path))
    server.propose("named", plain_plan(tiny_study()))
    events = Events()
    with server.listening(), syncing(held, observer=events) as sync:
        assert (sync.once().delivered, sync.once().delivered) == (1, 0)
        server.proposals["named"]["heard"] = ""
        assert (sync.once().delivered, sync.once().delivered) == (1, 0)
    first, again = server.consents
    assert again == first
    assert [one["proposal"] for one in events.named("consent.lost")] == ["named"]


def test_what_a_server_refused_by_name_is_not_brought_again(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    add_to_config(held, RULE + source_toml(tmp_path))
    server.propose("named", plain_plan(tiny_study()))
    server.refuse_consents = "FV-FED-008"
    events = Events()
    with server.listening(), syncing(held, observer=events) as sync:
        sync.once()
        sync.once()
    assert len(events.named("consent.delivered")) == 1


def test_the_rule_does_not_widen_the_policy(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    text = held.config_file.read_text().replace(
        "min_cohort = 10", "min_cohort = 10\nmax_rounds = 1"
    )
    held.config_file.write_text(text + RULE + source_toml(tmp_path))
    server.propose("named", plain_plan(tiny_study()))
    with server.listening(), syncing(held) as sync:
        sync.once()
    assert server.consents == []


def test_the_rule_rests_while_the_site_is_paused(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    add_to_config(held, RULE + source_toml(tmp_path))
    server.propose("named", plain_plan(tiny_study()))
    pause(held, by="x", reason="", now=now())
    with server.listening(), syncing(held) as sync:
        assert (sync.once().arrived, server.consents) == (1, [])
        resume(held, by="x", reason="")
        assert sync.once().delivered == 1


def test_answers_are_brought_whatever_else_fails(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    add_to_config(held, source_toml(tmp_path))
    server.propose("p1", plain_plan(tiny_study()))
    with server.listening(), syncing(held) as sync:
        sync.once()
        with SiteStore(held.store_file) as store:
            Answering(folder=held, store=store, key=held.identity()).approve(
                "p1", by="x", reason="", source=None, now=now()
            )
        server.root = IdentityKey.generate()
        server.sign_roster()
        with pytest.raises(RosterRootError):
            sync.once()
        assert [one["decision"] for one in server.consents] == ["approve"]


def test_without_a_rule_nothing_is_approved(tmp_path: Path) -> None:
    server = Server(folder=tmp_path / "server")
    held = joined(tmp_path / "site", server)
    add_to_config(held, source_toml(tmp_path))
    server.propose("p1", plain_plan(tiny_study()))
    with server.listening(), syncing(held) as sync:
        assert sync.once().delivered == 0
    with SiteStore(held.store_file) as store:
        assert store.consent("p1") is None
