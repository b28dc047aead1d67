"""A site that is silent, broken or lying costs itself the round, and never the run the rest."""

import dataclasses
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from tiny import (
    CPU,
    RUN,
    Federation,
    Recorded,
    Replay,
    make_federation,
    tiny_study,
)

from fedvol.audit import AuditLog
from fedvol.client.agent_spec import AgentSpec
from fedvol.client.local_state import LocalState
from fedvol.config import SIMULATION_POLICY
from fedvol.errors import AuditError, DiskFullError, QuorumError, TimeLimitError
from fedvol.federation import Action, Reply, Request, RoundState, RunState, SiteState
from fedvol.plan import canonical_json
from fedvol.server import Coordinator, SystemClock
from fedvol.simulation.engines import start_engine
from fedvol.simulation.federate import Federated, federate_over
from fedvol.store import RoundRecord, RunStore, open_engine
from fedvol.transport import Fault
from fedvol.types import SiteId

FAULTY = SiteId("hospital_2")
TENSOR = "stem.conv.weight"
Spoil = Callable[[Reply], Reply | None]


def at(site: SiteId, action: Action, number: int, spoil: Spoil):
    """A change of one site's one reply."""

    def change(request: Request, reply: Reply) -> Reply | None:
        hit = (request.site, request.action, request.round) == (site, action, number)
        return spoil(reply) if hit else reply

    return change


def tensor(make: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    return lambda reply: dataclasses.replace(
        reply, tensors={**reply.tensors, TENSOR: make(np.array(reply.tensors[TENSOR]))}
    )


def values(**changes: object) -> Spoil:
    return lambda reply: dataclasses.replace(
        reply, values=MappingProxyType({**reply.values, **changes})
    )


def with_one_nan(array: np.ndarray) -> np.ndarray:
    array.flat[-1] = np.nan
    return array


def without_tensor(reply: Reply) -> Reply:
    kept = {name: array for name, array in reply.tensors.items() if name != TENSOR}
    return dataclasses.replace(reply, tensors=kept)


def with_more_tensors(reply: Reply) -> Reply:
    more = {**reply.tensors, "patient.names": np.zeros(3, dtype=np.float32)}
    return dataclasses.replace(reply, tensors=more)


def refusal(code: str, title: str) -> Spoil:
    return lambda reply: dataclasses.replace(
        reply, code=code, title=title, tensors={}, values=MappingProxyType({})
    )


BAD = "FV-FED-002"
SPOILS: dict[str, tuple[Spoil, SiteState, str]] = {
    "silent": (lambda reply: None, SiteState.SILENT, "FV-FED-005"),
    "nan": (tensor(with_one_nan), SiteState.TRAINED, BAD),
    "infinite": (tensor(lambda a: np.full_like(a, np.inf)), SiteState.TRAINED, BAD),
    "transposed": (tensor(lambda a: a.swapaxes(0, 1)), SiteState.TRAINED, BAD),
    "flat": (tensor(lambda a: a.reshape(-1)), SiteState.TRAINED, BAD),
    "float64": (tensor(lambda a: a.astype(np.float64)), SiteState.TRAINED, BAD),
    "tensor missing": (without_tensor, SiteState.TRAINED, BAD),
    "tensor too many": (with_more_tensors, SiteState.TRAINED, BAD),
    "more cases than it has": (values(cases=1000), SiteState.TRAINED, BAD),
    "fewer steps": (values(steps=1), SiteState.TRAINED, BAD),
    "words for a loss": (values(loss="low"), SiteState.TRAINED, BAD),
    "more words": (values(patient="Smith"), SiteState.TRAINED, BAD),
    "another round": (
        lambda reply: dataclasses.replace(reply, round=7),
        SiteState.TRAINED,
        BAD,
    ),
    "disk full there": (
        refusal("FV-STORE-004", "disk full"),
        SiteState.REFUSED,
        "FV-STORE-004",
    ),
    "no labels": (refusal("FV-FED-006", "no labels"), SiteState.NO_LABELS, "FV-FED-006"),
}


def without_site(recorded: Recorded, record: RoundRecord, left_out: SiteId) -> bool:
    """Whether a round's new global state is its base plus the mean update of the other sites."""
    replies = {
        site: recorded.recording.replies[Action.FINETUNE, record.stage, record.index, site][1]
        for site in recorded.federation.cases
        if site != left_out
    }
    weights = {site: float(str(reply.values["cases"])) for site, reply in replies.items()}
    total = sum(weights.values())
    assert record.aggregate is not None
    return all(
        np.allclose(
            sum(weights[site] / total * replies[site].tensors[name] for site in replies),
            after - recorded.federation.initial[name].astype(np.float64),
            atol=1e-7,
        )
        for name, after in recorded.federation.state(record.aggregate).items()
    )


@pytest.mark.parametrize("name", SPOILS)
def test_a_bad_update_costs_its_site_the_round(
    name: str, tiny_recorded: Recorded, tmp_path: Path
) -> None:
    spoil, state, code = SPOILS[name]
    federation = tiny_recorded.again(tmp_path)
    change = at(FAULTY, Action.FINETUNE, 1, spoil)
    federation.conduct(Replay(tiny_recorded.recording, change=change, any_state=True))
    first, second = federation.rounds()
    assert (first.state, second.state) == (RoundState.CLOSED, RoundState.CLOSED)
    sites = {site.site: site for site in first.sites}
    assert (sites[FAULTY].state, sites[FAULTY].code) == (state, code)
    assert sites[FAULTY].title
    assert sites[FAULTY].blob is None
    others = [site.state for site in first.sites if site.site != FAULTY]
    assert others == [SiteState.CONTRIBUTED] * 2
    assert {site.state for site in second.sites} == {SiteState.CONTRIBUTED}
    # The first round's state may be pruned; the event tells what it was made of.
    events = federation.observer.named("site.silent", "site.refused")
    assert [(event["site"], event["round"]) for event in events] == [(FAULTY, 1)]


def test_the_others_mean_is_taken(tiny_recorded: Recorded, tmp_path: Path) -> None:
    """One round, so that its state is the release."""
    federation = tiny_recorded.again(tmp_path)
    kept: list[bool] = []
    recorded = dataclasses.replace(tiny_recorded, federation=federation)

    def closed(name: str, /, **fields: object) -> None:
        if name == "round.closed" and fields["round"] == 1:
            kept.append(without_site(recorded, federation.rounds()[0], FAULTY))

    federation.observer.event = closed  # type: ignore[method-assign]
    change = at(FAULTY, Action.FINETUNE, 1, lambda reply: None)
    federation.conduct(Replay(tiny_recorded.recording, change=change, any_state=True))
    assert kept == [True]


def test_faults_on_the_way(tiny_cases, tmp_path: Path) -> None:
    """Real sites behind the grid; each kind of fault hits another site in another round."""
    faulty = {
        (1, "hospital_1"): Fault.NON_FINITE,
        (1, "hospital_2"): Fault.DUPLICATE,
        (2, "hospital_2"): Fault.CORRUPT,
        (3, "hospital_3"): Fault.ERROR,
        (4, "hospital_1"): Fault.CRASH,
        (5, "hospital_2"): Fault.LOST,
        (6, "hospital_3"): Fault.WRONG_SITE,
    }

    def faults(request: Request) -> Fault | None:
        if request.action is not Action.FINETUNE:
            return None
        return faulty.get((request.round, request.site))

    study = tiny_study(rounds="rounds = 6", steps_per_round="steps_per_round = 1")
    federation = make_federation(study, cases=tiny_cases, folder=tmp_path)
    federation.run(faults=faults)
    records = federation.rounds()
    assert [(r.index, r.attempt, r.state) for r in records] == [
        (number, 1, RoundState.CLOSED) for number in range(1, 7)
    ]
    found = {
        (record.index, site.site): (site.state, site.code)
        for record in records
        for site in record.sites
        if site.state is not SiteState.CONTRIBUTED
    }
    assert found == {
        (1, "hospital_1"): (SiteState.TRAINED, "FV-FED-002"),
        (2, "hospital_2"): (SiteState.REFUSED, "FV-TRAN-001"),
        (3, "hospital_3"): (SiteState.REFUSED, "FV-TRAN-002"),
        (4, "hospital_1"): (SiteState.REFUSED, "FV-TRAN-000"),
        (5, "hospital_2"): (SiteState.SILENT, "FV-FED-005"),
        (6, "hospital_3"): (SiteState.REFUSED, "FV-TRAN-001"),
    }
    # What the failing app said stays where it failed.
    with sqlite3.connect(tmp_path / "run.db") as database:
        dump = "\n".join(database.iterdump())
    assert "patients/0042" not in dump
    assert "patients/0042" not in str(federation.observer.seen)


# --- below the minimum -----------------------------------------------------------------------


def two_silent_in_round_2(request: Request, reply: Reply) -> Reply | None:
    silent = request.action is Action.FINETUNE and request.round == 2
    return None if silent and request.site != "hospital_1" else reply


def run_state(federation: Federation) -> tuple[RunState, str]:
    engine = open_engine(federation.folder / "run.db")
    try:
        found = RunStore(engine).run(RUN)
    finally:
        engine.dispose()
    assert found is not None
    return found.state, found.reason


def test_too_few_sites_too_often(tiny_recorded: Recorded, tmp_path: Path) -> None:
    federation = tiny_recorded.again(tmp_path)
    with pytest.raises(QuorumError, match="1 of at least 2 sites contributed"):
        federation.conduct(Replay(tiny_recorded.recording, change=two_silent_in_round_2))
    records = federation.rounds()
    assert [(r.index, r.attempt, r.state) for r in records] == [
        (1, 1, RoundState.CLOSED),
        *((2, attempt, RoundState.ABANDONED) for attempt in (1, 2, 3)),
    ]
    assert all(record.reason for record in records[1:])
    state, reason = run_state(federation)
    assert state is RunState.FAILED
    assert "FV-FED-001" in reason
    assert "1 of at least 2 sites contributed" in reason
    assert federation.observer.named("run.finished") == [{"name": RUN, "status": "failed"}]

    # Once the sites are mended, it goes on and ends as if nothing had been.
    outcome, _ = federation.conduct(Replay(tiny_recorded.recording))
    assert outcome.release == tiny_recorded.outcome.release
    assert run_state(federation) == (RunState.FINISHED, "")
    assert [r.attempt for r in federation.rounds() if r.state is RoundState.CLOSED] == [1, 4]


def test_two_abandoned_attempts_are_survived(tiny_recorded: Recorded, tmp_path: Path) -> None:
    federation = tiny_recorded.again(tmp_path)
    asked = [0]

    def change(request: Request, reply: Reply) -> Reply | None:
        if (request.action, request.round, request.site) == (Action.FINETUNE, 2, "hospital_1"):
            asked[0] += 1
        return two_silent_in_round_2(request, reply) if asked[0] < 3 else reply

    outcome, _ = federation.conduct(Replay(tiny_recorded.recording, change=change))
    assert outcome.release == tiny_recorded.outcome.release
    assert [r.state for r in federation.rounds()] == [
        RoundState.CLOSED,
        RoundState.ABANDONED,
        RoundState.ABANDONED,
        RoundState.CLOSED,
    ]


def test_too_few_sites_from_the_start(tiny_recorded: Recorded, tmp_path: Path) -> None:
    federation = tiny_recorded.again(tmp_path)

    def change(request: Request, reply: Reply) -> Reply | None:
        return reply if request.site == "hospital_3" else None

    with pytest.raises(QuorumError, match="hospital_1: silent; hospital_2: silent"):
        federation.conduct(Replay(tiny_recorded.recording, change=change))
    assert federation.rounds() == ()


# --- judging ---------------------------------------------------------------------------------


def test_a_round_judged_on_fewer_cases_is_not_the_best(
    tiny_recorded: Recorded, tmp_path: Path
) -> None:
    best = tiny_recorded.outcome.best_round
    other = 3 - best
    federation = tiny_recorded.again(tmp_path)
    change = at(FAULTY, Action.VALIDATE, best, lambda reply: None)
    outcome, _ = federation.conduct(Replay(tiny_recorded.recording, change=change))
    assert outcome.best_round == other
    by_index = {record.index: record for record in federation.rounds()}
    n = {index: r.metrics[SiteId("")]["dice"].n for index, r in by_index.items()}
    assert n[best] < n[other]
    assert FAULTY not in by_index[best].metrics
    # Whatever its figure: the least loss of cases decides before the figure does.
    assert by_index[best].metrics[SiteId("")]["dice"].value is not None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda reply: dataclasses.replace(
            reply, tensors={k: np.full_like(v, 1e6) for k, v in reply.tensors.items()}
        ),
        lambda reply: dataclasses.replace(reply, tensors={}),
        values(cases=-1),
        values(keys=["dice"]),
    ],
    ids=["impossible", "nothing", "negative", "other keys"],
)
def test_bad_figures_are_left_out(spoil: Spoil, tiny_recorded: Recorded, tmp_path: Path) -> None:
    federation = tiny_recorded.again(tmp_path)
    change = at(FAULTY, Action.VALIDATE, 1, spoil)
    federation.conduct(Replay(tiny_recorded.recording, change=change))
    first = federation.rounds()[0]
    assert set(first.metrics) == {"", "hospital_1", "hospital_3"}
    refused = federation.observer.named("site.refused")
    assert [event["site"] for event in refused] == [FAULTY]


def test_no_figures_over_a_subset_of_the_test_sites(
    tiny_recorded: Recorded, tmp_path: Path
) -> None:
    federation = tiny_recorded.again(tmp_path)
    best = tiny_recorded.outcome.best_round
    change = at(FAULTY, Action.TEST, best, lambda reply: None)
    with pytest.raises(QuorumError, match="no test figures from hospital_2"):
        federation.conduct(Replay(tiny_recorded.recording, change=change), test=True)
    replay = Replay(tiny_recorded.recording)
    _, tests = federation.conduct(replay, test=True)
    assert set(tests) == set(tiny_recorded.tests)
    asked = [site for action, _, _, site in replay.asked if action is Action.TEST]
    assert asked == [FAULTY]  # the others' answers were kept


# --- one machine -----------------------------------------------------------------------------


def coordinator(federation: Federation) -> Coordinator:
    return Coordinator(
        run=RUN,
        plan=federation.plan,
        initial=federation.initial,
        store=RunStore(open_engine(federation.folder / "run.db")),
        blobs=federation.blobs,
        clock=SystemClock(),
        observer=federation.observer,
    )


def simulate(federation: Federation) -> Federated:
    """Conduct it as `fedvol simulate` does, over agents that are opened from descriptions."""
    plan_file = federation.folder / "plan.json"
    plan_file.write_bytes(canonical_json(federation.plan.model_dump(mode="json")))
    specs = {
        SiteId(site): AgentSpec(
            site=site,
            plan_file=str(plan_file),
            plan=federation.plan.digest,
            folder=str(federation.site(site)),
            cases={site: ""},  # they are open already
            is_pooled=False,
            policy=SIMULATION_POLICY,
            resampling_key=federation.plan.digest,
        )
        for site in federation.plan.sites
    }
    engine = start_engine(
        "in-process",
        workers=1,
        num_threads=1,
        cases=federation.cases,
        device=CPU,
        observer=federation.observer,
    )
    failures: list[Exception] = []
    return federate_over(
        lambda server: engine.run(server, specs, failures=failures),
        coordinator(federation),
        failures=failures,
        test=False,
    )


def test_in_a_simulation_a_sites_failure_stops_the_run(
    tiny_recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on without the site would give another model than a run that was never disturbed."""
    federation = tiny_recorded.again(tmp_path)
    real_save, real_append = LocalState.save, AuditLog.append
    troubles: list[Exception] = [
        DiskFullError("disk", "no space left", "Free some space."),
        MemoryError("of the training"),
        TimeLimitError("local training", "stopped after step 1 of 3", "Ask again."),
    ]

    def save(self: LocalState, **arguments) -> None:
        if troubles and FAULTY in str(self.folder):
            raise troubles.pop(0)
        real_save(self, **arguments)

    def append(self: AuditLog, record) -> None:
        if full and record.site == "hospital_3" and record.kind in ("update", "refusal"):
            raise AuditError("audit", "cannot be written", "Mend it.") from full[0]
        real_append(self, record)

    full: list[OSError] = []
    monkeypatch.setattr(LocalState, "save", save)
    monkeypatch.setattr(AuditLog, "append", append)
    with pytest.raises(DiskFullError, match="site hospital_2: disk full"):
        simulate(federation)
    with pytest.raises(MemoryError, match="of the training"):
        simulate(federation)
    with pytest.raises(TimeLimitError, match=r"site hospital_2: time limit passed.*--resume"):
        simulate(federation)
    full.append(OSError(28, "No space left on device"))
    with pytest.raises(DiskFullError):
        simulate(federation)
    full.clear()
    assert [record.state for record in federation.rounds()] == [RoundState.COLLECTING]
    ended = simulate(federation)
    assert ended.outcome.release == tiny_recorded.outcome.release
    assert [record.attempt for record in federation.rounds()] == [1, 1]
