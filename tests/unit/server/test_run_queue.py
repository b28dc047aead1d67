"""Runs one after the other: with consent alone, paused and stopped between rounds, receipts."""

from dataclasses import replace

import pytest
from arithmetic_sites import Events, reply
from queued_runs import FIRST, SECOND, A, B, Here, propose, run_state, say
from server_parties import Consortium, Hospital
from sqlalchemy import event
from sqlalchemy.orm import Session

from fedvol.audit import UNNAMED, Receipt
from fedvol.errors import NoConsentError, RunRequestError
from fedvol.federation import Action, Reply, Request, RunState, SiteState
from fedvol.identity import Tag, open_body
from fedvol.plan import Plan, digest_bytes
from fedvol.server.conducting import Conducted, Gate
from fedvol.server.run_desk import RunDesk
from fedvol.server.run_gate import RETRY_S
from fedvol.server.run_queue import RunQueue
from fedvol.server.server_state import ServerState
from fedvol.store import Decision, Wanted
from fedvol.types import RunId, SiteId

on_each_database = pytest.mark.parametrize("consortium", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def joined(state: ServerState, consortium: Consortium) -> None:
    consortium.join(state, Hospital(name="a"), Hospital(name="b"))


def desk(state: ServerState) -> RunDesk:
    return RunDesk(state, online=lambda: (A, B), training=lambda _run, _site: None)


@on_each_database
def test_a_run_takes_the_sites_that_agreed_and_gives_receipts(state: ServerState) -> None:
    plan = propose(state, FIRST, A)
    here = Here(state)
    assert here.queue.step()
    assert run_state(state, FIRST) == (RunState.FINISHED, "", Wanted.ENDED)
    assert {site for site, _ in here.links[0].trained} == {A}
    receipts = state.store.agreements.receipts(FIRST)
    assert [(key.round, key.site) for key in receipts] == [(1, A), (2, A), (3, A)]
    rounds = state.runs.rounds(FIRST)
    for record, signed in zip(rounds, receipts.values(), strict=True):
        told = open_body(signed, tag=Tag.RECEIPT, signer=state.key.public, where="receipt")
        assert (told["plan"], told["global"]) == (plan.digest, record.aggregate)
    assert here.audit.events == [
        Receipt(
            site=key.site,
            run=FIRST,
            stage=0,
            round=key.round,
            message=UNNAMED,  # no message brought it
            receipt=digest_bytes(signed),
        )
        for key, signed in receipts.items()
    ]
    assert not here.queue.step()


@on_each_database
def test_a_site_that_withdraws_is_asked_no_more(state: ServerState) -> None:
    propose(state, FIRST, A, B)

    def withdraw(run: RunId, closed: int) -> None:
        if closed == 1:
            say(state, run, B, Decision.WITHDRAW)

    here = Here(state, between=withdraw)
    here.queue.step()
    assert run_state(state, FIRST)[0] is RunState.FINISHED
    assert [one for one in here.links[0].trained if one[0] == B] == [(B, 1)]
    last = state.runs.rounds(FIRST)[-1].sites
    assert [(one.site, one.state, one.code) for one in last if one.site == B] == [
        (B, SiteState.REFUSED, NoConsentError.code)
    ]


@on_each_database
def test_pause_and_resume_lose_nothing(state: ServerState) -> None:
    propose(state, FIRST, A, B)

    def pause(run: RunId, closed: int) -> None:
        if closed == 2:
            state.store.agreements.want(run, Wanted.PAUSED, by="ada", reason="night")

    here = Here(state, between=pause)
    here.queue.step()
    assert run_state(state, FIRST) == (RunState.PAUSED, "ada paused it: night", Wanted.PAUSED)
    assert not here.queue.step()
    here.between = None
    state.store.agreements.want(FIRST, Wanted.STARTED, by="ada")
    here.queue.step()
    assert run_state(state, FIRST)[0] is RunState.FINISHED
    assert [one.attempt for one in state.runs.rounds(FIRST)] == [1, 1, 1]
    assert here.links[1].trained == [(B, 3), (A, 3)]


def test_stop_ends_with_a_reason_and_the_next_run_goes_on(state: ServerState) -> None:
    propose(state, FIRST, A)
    propose(state, SECOND, B)

    def stop(run: RunId, closed: int) -> None:
        if run == FIRST and closed == 1:
            state.store.agreements.want(run, Wanted.STOPPED, by="ada", reason="wrong labels")

    here = Here(state, between=stop)
    here.queue.step()
    told = (RunState.STOPPED, "ada stopped it: wrong labels", Wanted.ENDED)
    assert run_state(state, FIRST) == told
    assert len(state.runs.rounds(FIRST)) == 1
    here.queue.step()
    assert run_state(state, SECOND)[0] is RunState.FINISHED


def test_a_failed_run_does_not_block_the_next_and_can_be_resumed(state: ServerState) -> None:
    propose(state, FIRST, A)
    propose(state, SECOND, B)
    here = Here(state)
    broken = here.conduct

    def fails(run: RunId, plan: Plan, gate: Gate) -> Conducted:
        if run == FIRST:
            plan = plan.model_copy(update={"software": "9.0.0"})  # no site is of this version
        return broken(run, plan, gate)

    queue = here.queue_of(fails)
    queue.step()
    found, reason, wanted = run_state(state, FIRST)
    assert (found, wanted) == (RunState.FAILED, Wanted.ENDED)
    assert reason.startswith("FV-FED-00")
    queue.step()
    assert run_state(state, SECOND)[0] is RunState.FINISHED
    with pytest.raises(RunRequestError, match="ended"):
        desk(state).want(FIRST, verb="start", reason="", by="ada")
    assert run_state(state, FIRST) == (found, reason, wanted)
    desk(state).want(FIRST, verb="resume", reason="", by="ada")
    assert run_state(state, FIRST) == (RunState.PAUSED, "ada resumes it", Wanted.STARTED)
    here.queue.step()
    assert run_state(state, FIRST)[0] is RunState.FINISHED


class KilledError(BaseException):
    """Stands for the end of the process."""


def test_killed_before_a_failed_run_is_ended_it_ends_and_is_not_tried_again(
    state: ServerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    propose(state, FIRST, A)
    here = Here(state)
    here.change = Refusing(A, actions={Action.HEALTH})

    def die(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as dying:
        dying.setattr("fedvol.server.run_queue.issue_receipts", die)
        with pytest.raises(KilledError):
            here.queue.step()
    found, reason, wanted = run_state(state, FIRST)
    assert (found, wanted) == (RunState.FAILED, Wanted.STARTED)
    with pytest.raises(RunRequestError, match="about to end it"):
        desk(state).want(FIRST, verb="resume", reason="", by="ada")
    assert run_state(state, FIRST) == (found, reason, wanted)
    again = Here(state)  # its sites would all train
    assert again.queue.step()
    assert run_state(state, FIRST) == (RunState.FAILED, reason, Wanted.ENDED)
    assert (again.links, again.queue.step()) == ([], False)
    desk(state).want(FIRST, verb="resume", reason="", by="ada")
    again.queue.step()
    assert run_state(state, FIRST)[0] is RunState.FINISHED


@on_each_database
def test_killed_after_the_first_write_of_a_resume_the_run_goes_on(state: ServerState) -> None:
    propose(state, FIRST, A)
    here = Here(state)
    here.change = Refusing(A, actions={Action.HEALTH})
    here.queue.step()
    found, _, wanted = run_state(state, FIRST)
    assert (found, wanted) == (RunState.FAILED, Wanted.ENDED)

    def note(session: Session, _flushed: object) -> None:
        session.info["has_written"] = True

    def die(session: Session) -> None:
        if "has_written" in session.info:
            raise KilledError

    event.listen(Session, "after_flush", note)
    event.listen(Session, "after_commit", die)
    try:
        with pytest.raises(KilledError):
            desk(state).want(FIRST, verb="resume", reason="", by="ada")
    finally:
        event.remove(Session, "after_flush", note)
        event.remove(Session, "after_commit", die)
    here.change = None
    assert here.queue.step()
    assert run_state(state, FIRST)[0] is RunState.FINISHED


def test_a_run_that_never_began_is_stopped(state: ServerState) -> None:
    propose(state, FIRST, start=False)
    state.store.agreements.want(FIRST, Wanted.STOPPED, by="ada", reason="a mistake")
    assert not Here(state).queue.step()
    told = (RunState.STOPPED, "ada stopped it: a mistake", Wanted.ENDED)
    assert run_state(state, FIRST) == told


def test_a_run_waits_for_its_sites_and_heeds_a_stop_meanwhile(state: ServerState) -> None:
    propose(state, FIRST, start=False)
    state.store.agreements.want(FIRST, Wanted.STARTED, by="ada")  # whoever agreed has withdrawn
    here = Here(state)

    def wait(_seconds: float) -> None:
        here.waits += 1
        if here.waits == 3:
            state.store.agreements.want(FIRST, Wanted.STOPPED, by="ada")

    RunQueue(state, audit=here.audit, observer=Events(), conducts=here.conduct, wait=wait).step()
    assert here.waits == 3
    assert run_state(state, FIRST) == (RunState.STOPPED, "ada stopped it", Wanted.ENDED)
    assert here.links[0].trained == []


class Refusing:
    """A site that refuses everything for so many questions, or for ever."""

    def __init__(self, site: SiteId, *, actions: set[Action], times: int = 10**6) -> None:
        self.site, self.actions, self.left = site, actions, times

    def __call__(self, request: Request) -> Reply | None:
        if request.site != self.site or request.action not in self.actions or not self.left:
            return None
        self.left -= 1
        return replace(reply(request), code=NoConsentError.code, title=NoConsentError.title)


def test_a_site_that_is_away_at_the_start_joins_a_later_round(state: ServerState) -> None:
    propose(state, FIRST, A, B)
    here = Here(state)
    here.change = Refusing(B, actions={Action.HEALTH}, times=2)
    here.queue.step()
    assert run_state(state, FIRST)[0] is RunState.FINISHED
    assert here.links[0].trained == [(A, 1), (B, 2), (A, 2), (B, 3), (A, 3)]
    assert set(state.runs.evaluations(FIRST, model=FIRST)) == {A, B}


def test_sites_that_refuse_for_a_while_do_not_fail_the_run(state: ServerState) -> None:
    """Its hours end, or it pauses: refusals come within seconds, and the run waits."""
    propose(state, FIRST, A)
    here = Here(state)
    here.change = Refusing(A, actions={Action.HEALTH}, times=30)
    here.queue.step()
    assert run_state(state, FIRST)[0] is RunState.FINISHED
    assert here.clock.waited_s == 30 * RETRY_S


def test_sites_that_refuse_for_good_fail_it_once_their_time_is_over(state: ServerState) -> None:
    propose(state, FIRST, A)
    here = Here(state)
    here.change = Refusing(A, actions={Action.HEALTH})
    here.queue.step()
    found, reason, _ = run_state(state, FIRST)
    assert (found, here.clock.waited_s) == (RunState.FAILED, 3600.0)
    assert NoConsentError.code in reason


def test_missing_test_figures_are_asked_for_again_on_resume(state: ServerState) -> None:
    propose(state, FIRST, A, B)
    here = Here(state)
    here.change = Refusing(B, actions={Action.TEST})
    here.queue.step()
    assert run_state(state, FIRST)[0] is RunState.FINISHED
    shown = desk(state)
    assert "no test figures from b" in str(shown.show(FIRST)["reason"])
    here.change = None
    shown.want(FIRST, verb="resume", reason="", by="ada")
    here.queue.step()
    assert set(state.runs.evaluations(FIRST, model=FIRST)) == {A, B}
    assert here.links[1].trained == []
    assert shown.show(FIRST)["reason"] == ""
    with pytest.raises(RunRequestError, match="for good"):
        shown.want(FIRST, verb="resume", reason="", by="ada")


def test_a_fault_of_ours_fails_its_run_alone(state: ServerState) -> None:
    propose(state, FIRST, A)
    propose(state, SECOND, A)
    here = Here(state)

    def broken(run: RunId, plan: Plan, gate: Gate) -> Conducted:
        if run == FIRST:
            raise ZeroDivisionError
        return here.conduct(run, plan, gate)

    queue = here.queue_of(broken)
    queue.step()
    queue.step()
    found, reason, wanted = run_state(state, FIRST)
    assert (found, wanted) == (RunState.FAILED, Wanted.ENDED)
    assert "ZeroDivisionError" in reason
    assert run_state(state, SECOND)[0] is RunState.FINISHED
