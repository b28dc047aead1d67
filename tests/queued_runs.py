"""Started runs, played by a server's queue over sites that answer with arithmetic."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from arithmetic_sites import INITIAL, SPECS, Answer, Events, FakeLink
from audit_logs import Noted
from tiny import tiny_study

from fedvol.federation import RunState
from fedvol.plan import NetworkDescription, Plan, state_digest
from fedvol.server import Coordinator, SystemClock
from fedvol.server.conducting import Conducted, Gate, bring_to_end
from fedvol.server.proposing import run_proposal
from fedvol.server.run_gate import RunGate
from fedvol.server.run_queue import Conduct, RunQueue
from fedvol.server.server_state import ServerState
from fedvol.store import BlobStore, ConsentRecord, Decision, Wanted
from fedvol.types import RunId, SiteId

STUDY = tiny_study(more="\n[federation]\nmin_sites = 1\n")
FIRST, SECOND = RunId("first"), RunId("second")
A, B = SiteId("a"), SiteId("b")
Between = Callable[[RunId, int], None]


class WaitedClock(SystemClock):
    """Time that passes by waiting alone."""

    waited_s = 0.0

    def monotonic_s(self) -> float:
        return self.waited_s


class Here:
    """Conducts runs over sites that answer with arithmetic."""

    def __init__(self, state: ServerState, *, between: Between | None = None) -> None:
        self.state, self.between = state, between
        self.links: list[FakeLink] = []
        self.change: Answer | None = None
        self.waits = 0
        self.clock = WaitedClock()
        self.audit = Noted()
        self.queue = self.queue_of(self.conduct)

    def queue_of(self, conducts: Conduct) -> RunQueue:
        return RunQueue(
            self.state,
            audit=self.audit,
            observer=Events(),
            conducts=conducts,
            wait=self.wait,
            clock=self.clock,
        )

    def wait(self, seconds: float) -> None:
        self.waits += 1
        self.clock.waited_s += seconds
        assert self.waits < 4000, "it waits for ever"

    def conduct(self, run: RunId, plan: Plan, gate: Gate) -> Conducted:
        link = FakeLink(plan, change=self.change)
        self.links.append(link)

        coordinator = Coordinator(
            run=run,
            plan=plan,
            initial=INITIAL,
            store=self.state.runs,
            blobs=BlobStore(self.state.folder.blobs(run)),
            clock=SystemClock(),
            observer=Events(),
            pacing=self.gate_of(run, gate),
        )
        return bring_to_end(coordinator, gate.admitted(link), gate=gate)

    def gate_of(self, run: RunId, gate: Gate) -> Gate:
        """The gate, beside which something happens between rounds."""
        assert isinstance(gate, RunGate)
        heed = gate.between_rounds

        def between_rounds() -> None:
            if self.between is not None:
                closed = [one for one in self.state.runs.rounds(run) if one.ended]
                self.between(run, len(closed))
            heed()

        gate.between_rounds = between_rounds  # type: ignore[method-assign]
        return gate


def propose(state: ServerState, run: RunId, *agreed: SiteId, start: bool = True) -> Plan:
    network = NetworkDescription(tensors=SPECS, initial_digest=state_digest(INITIAL))
    plan = Plan(software="0.1.0", study=STUDY, sites=("a", "b"), network=network)
    proposal = run_proposal(run, plan=plan, key=state.key, operator="ada", now=datetime.now(UTC))
    state.store.agreements.propose(proposal)
    state.runs.create_run(run, plan=plan)
    for site in agreed:
        say(state, run, site, Decision.APPROVE)
    if start:
        state.store.agreements.want(run, Wanted.STARTED, by="ada")
    return plan


def say(state: ServerState, run: RunId, site: SiteId, decision: Decision) -> None:
    held = state.store.agreements.consents(run).get(site)
    said = held.said + timedelta(seconds=1) if held else datetime.now(UTC)
    state.store.agreements.consent(
        ConsentRecord(proposal=run, site=site, decision=decision, reason="", signed=b"", said=said)
        if held is None
        else ConsentRecord(
            proposal=run, site=site, decision=decision, reason="", signed=b"2", said=said
        )
    )


def run_state(state: ServerState, run: RunId) -> tuple[RunState, str, Wanted]:
    record, request = state.runs.run(run), state.store.agreements.request(run)
    assert record is not None
    assert request is not None
    return record.state, record.reason, request.wanted
