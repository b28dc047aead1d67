"""A fingerprint job in the queue: consenting sites alone, those who count still, and the plan."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from arithmetic_sites import Events, reply
from case_facts import CHANNELS, CLASSES, OPEN_STUDY, make_case
from server_parties import Consortium, Hospital

from fedvol.audit import AuditLog
from fedvol.config.loading import parse_open_study
from fedvol.errors import NotPreparedError, RunRequestError
from fedvol.federation import Link, Reply, Request, RunState
from fedvol.identity import Tag, open_body
from fedvol.plan import Fingerprint, Proposal, plan_over_sites
from fedvol.privacy.fingerprints import fingerprint
from fedvol.server.clock import SystemClock
from fedvol.server.fingerprint_job import JobRecord
from fedvol.server.proposing import fingerprint_proposal
from fedvol.server.run_desk import RunDesk
from fedvol.server.run_gate import RETRY_S, RunGate
from fedvol.server.run_queue import RunQueue
from fedvol.server.server_state import ServerState
from fedvol.store import ConsentRecord, Decision, Wanted
from fedvol.types import RunId, SiteId

JOB = RunId("parity-fingerprint")
SITES = ("a", "b", "c")
ASKED = Proposal(
    software="0.1.0", study=parse_open_study(OPEN_STUDY, where="study.toml"), sites=SITES
)


def counted(num: int, *, edge_mm: float = 1.0) -> Fingerprint:
    cases = [
        make_case(f"S{n}", shape=(64, 64, 64), spacing_mm=(edge_mm, 1, 1), voxels=([40.0], [60.0]))
        for n in range(num)
    ]
    return fingerprint(cases, channels=CHANNELS, classes=CLASSES, floor=1)


PARTS = {"a": counted(30), "b": counted(40), "c": counted(50)}


class World:
    """A server with a started job, and sites that are counted, or say a code first."""

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self.parts = dict(PARTS)
        self.present = [*SITES]
        self.unready = 0
        self.asked: list[list[str]] = []
        self.waits = 0
        self.waiting: Callable[[], None] = lambda: None
        self.events = Events()
        self.waited_s = 0.0
        self.queue = RunQueue(
            state,
            audit=AuditLog(state.folder.audit),
            observer=self.events,
            reaches=self.reach,
            wait=self.wait,
            clock=WaitedClock(self),
        )
        state.store.agreements.propose(
            fingerprint_proposal(
                JOB, asked=ASKED, key=state.key, operator="ada", now=datetime.now(UTC)
            )
        )

    def agree(self, *sites: str, start: bool = True) -> None:
        agreements = self.state.store.agreements
        for site in sites:
            agreements.consent(
                ConsentRecord(
                    proposal=JOB,
                    site=SiteId(site),
                    decision=Decision.APPROVE,
                    reason="",
                    signed=b"",
                    said=datetime.now(UTC),
                )
            )
        if start:
            agreements.want(JOB, Wanted.STARTED, by="ada")

    def wait(self, seconds: float) -> None:
        self.waits += 1
        self.waited_s += seconds
        assert self.waits < 4000, "it waits for ever"
        self.waiting()

    def reach(self, job: RunId, gate: RunGate, work: Callable[[Link], None]) -> None:
        assert job == JOB
        work(gate.admitted(self))

    def sites(self) -> tuple[SiteId, ...]:
        return tuple(map(SiteId, self.present))

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        self.asked.append([request.site for request in requests])
        for request in requests:
            if request.site == "b" and self.unready:
                self.unready -= 1
                yield _refusal(request)
            else:
                part = self.parts[request.site]
                yield reply(request, values=part.model_dump(mode="json"))

    def record(self) -> JobRecord:
        record = JobRecord.read(self.state.folder.fingerprint(JOB))
        assert record is not None
        return record

    def desk(self) -> RunDesk:
        return RunDesk(self.state, online=self.sites, training=lambda _run, _site: None)

    def shown(self) -> dict[str, Any]:
        return self.desk().show(JOB)


class WaitedClock(SystemClock):
    """Time that passes by waiting alone."""

    def __init__(self, world: World) -> None:
        self.world = world

    def monotonic_s(self) -> float:
        return self.world.waited_s


def _refusal(request: Request) -> Reply:
    return Reply(
        run=request.run,
        stage=0,
        round=0,
        site=request.site,
        action=request.action,
        code=NotPreparedError.code,
        title=NotPreparedError.title,
        tensors={},
        values={},
        bytes_up=0,
        bytes_down=0,
    )


@pytest.fixture
def world(state: ServerState, consortium: Consortium) -> World:
    consortium.join(state, *(Hospital(name=site) for site in SITES))
    waiting = state.config.waiting.model_copy(update={"for_quorum_s": 120.0})
    return World(replace(state, config=state.config.model_copy(update={"waiting": waiting})))


def test_what_a_site_is_told_before_it_agrees(world: World) -> None:
    proposal = world.state.store.agreements.proposal(JOB)
    assert proposal is not None
    told = open_body(
        proposal.content, tag=Tag.PROPOSAL, signer=world.state.key.public, where="proposal"
    )
    assert (told["kind"], told["digest"]) == ("fingerprint", ASKED.digest)
    assert "sums and histograms" in str(told["words"])
    assert "Nothing is trained" in str(told["words"])


def test_the_plan_follows_from_every_site_that_agreed(world: World) -> None:
    world.agree(*SITES)
    assert world.queue.step()
    planned = world.record().planned
    assert planned is not None
    study, planning = plan_over_sites(ASKED.study, {SiteId(k): v for k, v in PARTS.items()})
    assert (planned.study, planned.planning) == (study, planning)
    assert planned.parts == PARTS
    shown = world.shown()
    assert (shown["state"], shown["wanted"], shown["reason"]) == ("finished", "ended", "")
    assert {one["state"] for one in shown["sites"]} == {"counted"}
    assert not world.queue.step()


def test_who_did_not_agree_or_is_not_there_is_left_out_and_named(world: World) -> None:
    world.agree("a", "b")
    world.queue.step()
    assert world.asked == [["a", "b"]]
    planned = world.record().planned
    assert planned is not None
    assert sorted(planned.parts) == ["a", "b"]
    (left,) = [one for one in world.shown()["sites"] if one["state"] != "counted"]
    assert (left["site"], left["state"], left["title"]) == ("c", "absent", "it did not agree")


def test_a_site_that_still_counts_is_asked_again(world: World) -> None:
    world.agree(*SITES)
    world.unready = 2
    world.queue.step()
    assert world.asked == [["a", "b", "c"], ["b"], ["b"]]
    assert world.waited_s == 2 * RETRY_S
    assert sorted(world.record().sites) == [*SITES]
    assert world.record().state is RunState.FINISHED


def test_a_site_that_counts_for_too_long_is_left_out(world: World) -> None:
    world.agree(*SITES)
    world.unready = 10**6
    world.queue.step()
    assert world.waited_s == 120
    record = world.record()
    assert record.planned is not None
    assert sorted(record.planned.parts) == ["a", "c"]
    assert record.sites["b"].code == NotPreparedError.code


def test_a_stop_is_heeded_while_sites_count(world: World) -> None:
    world.agree(*SITES)
    world.unready = 1000

    def stop() -> None:
        if world.waits == 3:
            world.state.store.agreements.want(JOB, Wanted.STOPPED, by="ada", reason="too long")

    world.waiting = stop
    world.queue.step()
    assert world.waits == 3
    shown = world.shown()
    assert (shown["state"], shown["reason"]) == ("stopped", "ada stopped it: too long")
    assert world.record().planned is None


class KilledError(BaseException):
    """Stands for the end of the process."""


def test_a_job_that_failed_says_why_and_can_be_resumed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.agree("a", "b")
    world.parts["b"] = counted(0)

    def die(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as dying:
        dying.setattr("fedvol.server.run_queue.issue_receipts", die)
        with pytest.raises(KilledError):
            world.queue.step()
    assert (world.record().state, world.shown()["wanted"]) == (RunState.FAILED, "started")
    world.queue.step()
    shown = world.shown()
    assert (shown["state"], shown["wanted"]) == ("failed", "ended")
    assert "b: no training case" in shown["reason"]
    assert "c: it did not agree" in shown["reason"]
    world.parts["b"] = PARTS["b"]
    assert len(world.asked) == 1
    with pytest.raises(RunRequestError, match="ended"):
        world.desk().want(JOB, verb="start", reason="", by="ada")
    assert world.shown() == shown
    world.desk().want(JOB, verb="resume", reason="", by="ada")
    assert [world.shown()[name] for name in ("state", "reason")] == ["running", ""]
    world.queue.step()
    assert world.shown()["state"] == "finished"


def test_sites_that_cannot_be_planned_for_together(world: World) -> None:
    world.parts["c"] = counted(50, edge_mm=9.5)
    world.agree(*SITES)
    world.queue.step()
    assert world.record().state is RunState.FAILED
    assert "FV-CONF-020" in world.record().reason
    assert "c has 9.5 mm" in world.record().reason
