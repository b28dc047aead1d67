import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from fedvol.errors import StoreError, TransitionError
from fedvol.federation import MetricSums, RoundState, RunState, SiteState, Stat
from fedvol.plan import Plan
from fedvol.store import (
    ALL_SITES,
    CheckpointKind,
    RoundKey,
    RunStore,
    SiteRound,
    open_engine,
)
from fedvol.types import Digest, RunId, SiteId

RUN = RunId("r1")
BASE = Digest("b" * 64)
NEXT = Digest("c" * 64)
A, B = SiteId("a"), SiteId("b")


def stat(value: float | None, n: int = 3) -> Stat:
    return Stat(value=value, n=n, low=None, high=None, undefined=1, penalised=0)


def opened(store: RunStore, plan: Plan, index: int = 1) -> RoundKey:
    if store.run(RUN) is None:
        store.create_run(RUN, plan=plan)
    return store.open_round(RUN, stage=0, index=index, base=BASE).key


def test_run_is_written_whole(store: RunStore, plan: Plan) -> None:
    assert store.run(RUN) is None
    made = store.create_run(RUN, plan=plan)
    assert store.run(RUN) == made
    assert made.plan == plan
    assert made.plan_digest == plan.digest
    assert (made.study, made.state) == ("tiny", RunState.PROPOSED)
    assert [run.id for run in store.runs()] == [RUN]
    with pytest.raises(StoreError, match="exists already"):
        store.create_run(RUN, plan=plan)


def test_run_moves_only_where_it_may(store: RunStore, plan: Plan) -> None:
    store.create_run(RUN, plan=plan)
    with pytest.raises(TransitionError):
        store.set_run_state(RUN, RunState.FINISHED)
    store.set_run_state(RUN, RunState.RUNNING)
    failed = store.set_run_state(RUN, RunState.FAILED, reason="too few sites")
    assert failed.reason == "too few sites"
    assert store.set_run_state(RUN, RunState.RUNNING).reason == ""
    store.set_run_state(RUN, RunState.FINISHED)
    with pytest.raises(TransitionError):
        store.set_run_state(RUN, RunState.RUNNING)


def test_life_of_a_round(database: str | Path, plan: Plan) -> None:
    ticks = count()
    start = datetime(2026, 1, 1, tzinfo=UTC)
    engine = open_engine(database)
    store = RunStore(engine, now=lambda: start + timedelta(seconds=next(ticks)))
    key = opened(store, plan)
    assert key == RoundKey(run=RUN, stage=0, index=1, attempt=1)
    store.set_round_state(key, RoundState.COLLECTING, seconds=0.5)
    store.put_site_round(key, SiteRound(site=B, state=SiteState.ASKED))
    store.put_site_round(key, SiteRound(site=A, state=SiteState.ASKED))
    done = SiteRound(
        site=A,
        state=SiteState.CONTRIBUTED,
        cases=5,
        steps=7,
        train_seconds=1.5,
        loss=0.25,
        bytes_up=5_000_000_000,
        bytes_down=6,
        weight=5.0,
        blob=NEXT,
    )
    store.put_site_round(key, done)
    silent = SiteRound(site=B, state=SiteState.SILENT, code="FV-FED-005", title="time limit passed")
    store.put_site_round(key, silent)
    with pytest.raises(TransitionError):
        store.set_round_state(key, RoundState.CLOSED)
    store.set_round_state(key, RoundState.SUMMED, aggregate=NEXT)
    store.put_metrics(key, {A: {"dice": stat(0.5)}})
    store.put_metrics(
        key, {ALL_SITES: {"dice": stat(0.6), "dice/liver": stat(None, 0)}, A: {"dice": stat(0.6)}}
    )
    store.set_round_state(key, RoundState.EVALUATED)
    closed = store.set_round_state(key, RoundState.CLOSED, seconds=4.0)

    assert store.rounds(RUN) == (closed,) == store.rounds(RUN, stage=0)
    assert store.rounds(RUN, stage=1) == ()
    assert (closed.stage, closed.index, closed.attempt) == (0, 1, 1)
    assert (closed.base, closed.aggregate) == (BASE, NEXT)
    assert closed.seconds == 4.5
    assert closed.metrics == {
        ALL_SITES: {"dice": stat(0.6), "dice/liver": stat(None, 0)},
        A: {"dice": stat(0.6)},
    }
    first, second = closed.sites
    assert (first.site, first.bytes_up, first.blob, first.loss) == (A, 5_000_000_000, NEXT, 0.25)
    assert (second.site, second.state, second.code) == (B, SiteState.SILENT, "FV-FED-005")
    assert first.asked is not None
    assert first.answered is not None
    assert start < first.asked < first.answered
    engine.dispose()


def test_abandoned_round_is_tried_again(store: RunStore, plan: Plan) -> None:
    key = opened(store, plan)
    with pytest.raises(TransitionError, match="not abandoned"):
        store.open_round(RUN, stage=0, index=1, base=BASE)
    store.set_round_state(key, RoundState.ABANDONED, reason="1 of 2 sites")
    again = store.open_round(RUN, stage=0, index=1, base=BASE)
    assert again.attempt == 2
    assert [(r.attempt, r.reason) for r in store.rounds(RUN)] == [(1, "1 of 2 sites"), (2, "")]


def test_aggregate_comes_with_summed_alone(store: RunStore, plan: Plan) -> None:
    key = opened(store, plan)
    with pytest.raises(ValueError, match="aggregate"):
        store.set_round_state(key, RoundState.COLLECTING, aggregate=NEXT)
    store.set_round_state(key, RoundState.COLLECTING)
    with pytest.raises(ValueError, match="aggregate"):
        store.set_round_state(key, RoundState.SUMMED)


def test_unknown_run_and_round(store: RunStore, plan: Plan) -> None:
    with pytest.raises(StoreError, match="no such run"):
        store.set_run_state(RUN, RunState.RUNNING)
    with pytest.raises(StoreError, match="no such run"):
        store.open_round(RUN, stage=0, index=1, base=BASE)
    key = opened(store, plan)
    unknown = RoundKey(run=RUN, stage=0, index=9, attempt=1)
    with pytest.raises(StoreError, match="no such attempt"):
        store.put_site_round(unknown, SiteRound(site=A, state=SiteState.ASKED))
    with pytest.raises(StoreError, match="no such attempt"):
        store.put_metrics(unknown, {})
    assert store.rounds(RUN)[0].key == key


def test_checkpoints(store: RunStore, plan: Plan) -> None:
    store.create_run(RUN, plan=plan)
    store.add_checkpoint(RUN, stage=0, round=0, kind=CheckpointKind.INITIAL, digest=BASE)
    store.add_checkpoint(RUN, stage=0, round=3, kind=CheckpointKind.RELEASE, digest=BASE)
    store.add_checkpoint(RUN, stage=0, round=3, kind=CheckpointKind.RELEASE, digest=NEXT)
    assert [c.kind for c in store.checkpoints(RUN)] == [
        CheckpointKind.INITIAL,
        CheckpointKind.RELEASE,
    ]
    (release,) = store.checkpoints(RUN, kind=CheckpointKind.RELEASE)
    assert (release.round, release.digest, release.name) == (3, NEXT, "")


@pytest.mark.parametrize("order", ["C", "F"])
def test_evaluations_come_back_bit_for_bit(store: RunStore, plan: Plan, order: str) -> None:
    store.create_run(RUN, plan=plan)
    rng = np.random.default_rng(0)
    sums = MetricSums(
        keys=("dice", "dice/liver"),
        sums=np.array(rng.random((2, 101)), order=order),
        counts=np.array(9 * rng.random((2, 101)), order=order),
        undefined=np.array([1, 0]),
        penalised=np.array([0, 2]),
        lone_sites=np.array([0, 1]),
    )
    store.put_evaluation(RUN, model="pooled", site=B, sums=sums)
    store.put_evaluation(RUN, model="pooled", site=A, sums=sums)
    store.put_evaluation(RUN, model="other", site=A, sums=sums)
    found = store.evaluations(RUN, model="pooled")
    assert list(found) == [A, B]
    assert found[B].keys == sums.keys
    assert found[B].sums.tobytes() == sums.sums.tobytes()
    assert found[B].counts.tobytes() == sums.counts.tobytes()
    assert found[B].stat("dice/liver") == sums.stat("dice/liver")
    assert found[B].lone_sites.tolist() == [0, 1]


WRITER = """
import sys
from pathlib import Path
from fedvol.federation import RoundState, SiteState
from fedvol.plan import Plan
from fedvol.store import RunStore, SiteRound, open_engine

plan = Plan.model_validate_json(Path(sys.argv[2]).read_text())
store = RunStore(open_engine(Path(sys.argv[1])))
store.create_run("r1", plan=plan)
for index in range(1, 100_000):
    key = store.open_round("r1", stage=0, index=index, base="b" * 64).key
    store.set_round_state(key, RoundState.COLLECTING)
    for site in ("a", "b"):
        store.put_site_round(key, SiteRound(site=site, state=SiteState.CONTRIBUTED))
    store.set_round_state(key, RoundState.SUMMED, aggregate="c" * 64)
    print(index, flush=True)
"""


@pytest.mark.parametrize("rounds_before_kill", [1, 4])
def test_killed_writer_loses_nothing_it_committed(
    tmp_path: Path, plan: Plan, rounds_before_kill: int
) -> None:
    database, plan_path = tmp_path / "r.db", tmp_path / "plan.json"
    plan_path.write_text(plan.model_dump_json())
    command = [sys.executable, "-c", WRITER, str(database), str(plan_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(rounds_before_kill):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
    acknowledged = int(rest[-1]) if rest else rounds_before_kill
    engine = open_engine(database)
    store = RunStore(engine)
    records = store.rounds(RUN)
    summed = [record for record in records if record.state is RoundState.SUMMED]
    assert len(summed) in (acknowledged, acknowledged + 1)
    assert [record.index for record in records] == list(range(1, len(records) + 1))
    assert all(len(record.sites) == 2 and record.aggregate for record in summed)
    # The next process goes on from exactly there.
    last = records[-1]
    if last.state is RoundState.OPEN:
        store.set_round_state(last.key, RoundState.COLLECTING)
    if last.state in (RoundState.OPEN, RoundState.COLLECTING):
        store.set_round_state(last.key, RoundState.SUMMED, aggregate=NEXT)
    assert store.rounds(RUN)[-1].state is RoundState.SUMMED
    engine.dispose()
