"""`RunStore`: the record of every run, round and site; each method is one transaction.

A transition is written before its effect is visible, so whoever restarts reads where the run
stands and goes on from there.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import cast, final

import numpy as np
import safetensors.numpy
from sqlalchemy import Engine, delete, select

from fedvol.errors import StoreError, TransitionError
from fedvol.federation import (
    MetricSums,
    RoundState,
    RunState,
    SiteState,
    Stat,
    from_arrays,
    to_arrays,
)
from fedvol.federation.states import require_round_transition, require_run_transition
from fedvol.plan import Plan, canonical_json
from fedvol.store import rows
from fedvol.store.database import reading, writing
from fedvol.store.records import (
    CheckpointKind,
    CheckpointRecord,
    RoundKey,
    RoundRecord,
    RunRecord,
    SiteRound,
)
from fedvol.store.schema import prepare_schema
from fedvol.store.tables import (
    RUNS,
    CheckpointRow,
    EvaluationRow,
    RoundMetricRow,
    RoundRow,
    RunRow,
    SiteRoundRow,
)
from fedvol.types import Digest, Json, RunId, SiteId


def _utc_now() -> datetime:
    return datetime.now(UTC)


@final
class RunStore:
    """Runs in a database.

    Every method may raise `StoreError` where the database is locked or damaged, and
    `DiskFullError` where no space is left.

    Args:
        engine: From `open_engine`.
        now: Gives the time, UTC.

    Raises:
        SchemaVersionError: The tables were made by another version of fedvol.
    """

    def __init__(self, engine: Engine, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._engine = engine
        self._now = now
        prepare_schema(engine, RUNS)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    # --- runs ---------------------------------------------------------------------------------

    def create_run(self, run: RunId, *, plan: Plan) -> RunRecord:
        """Propose a run.

        Raises:
            StoreError: There is one of that name.
        """
        document = plan.model_dump(mode="json")
        with writing(self._engine) as session:
            if session.get(RunRow, run) is not None:
                raise StoreError(f"run {run}", "it exists already", "Choose another name.")
            row = RunRow(
                id=run,
                study=plan.study.name,
                plan_digest=plan.digest,
                plan_json=canonical_json(document).decode(),
                state=RunState.PROPOSED.value,
                reason="",
                created=self._now(),
            )
            session.add(row)
            return rows.run_record(row)

    def run(self, run: RunId) -> RunRecord | None:
        """One run; None if there is none of that name."""
        with reading(self._engine) as session:
            row = session.get(RunRow, run)
            return rows.run_record(row) if row is not None else None

    def runs(self) -> tuple[RunRecord, ...]:
        """Every run, oldest first."""
        with reading(self._engine) as session:
            found = session.scalars(select(RunRow).order_by(RunRow.created, RunRow.id))
            return tuple(rows.run_record(row) for row in found)

    def set_run_state(self, run: RunId, state: RunState, *, reason: str = "") -> RunRecord:
        """Move a run on.

        Raises:
            TransitionError: The state cannot follow the present one.
        """
        with writing(self._engine) as session:
            row = rows.find_run(session, run)
            require_run_transition(RunState(row.state), state)
            row.state, row.reason = state.value, reason
            return rows.run_record(row)

    # --- rounds -------------------------------------------------------------------------------

    def open_round(
        self,
        run: RunId,
        *,
        stage: int,
        index: int,
        base: Digest,
        arguments: Mapping[str, Json] = MappingProxyType({}),
    ) -> RoundRecord:
        """Open the next attempt at a round.

        Args:
            run: The run.
            stage: Index of the stage.
            index: 1 for the first round.
            base: Digest of the global state it starts from.
            arguments: What every site is told beside it.

        Raises:
            TransitionError: An earlier attempt was not abandoned.
        """
        with writing(self._engine) as session:
            rows.find_run(session, run)
            earlier = session.scalars(
                select(RoundRow)
                .where(RoundRow.run == run, RoundRow.stage == stage, RoundRow.round == index)
                .order_by(RoundRow.attempt)
            ).all()
            if earlier and earlier[-1].state != RoundState.ABANDONED:
                raise TransitionError(
                    f"run {run} round {index}",
                    f"its last attempt is {earlier[-1].state}, not abandoned",
                    "Go on with that attempt.",
                )
            row = RoundRow(
                run=run,
                stage=stage,
                round=index,
                attempt=len(earlier) + 1,
                state=RoundState.OPEN.value,
                base=base,
                arguments_json=canonical_json(dict(arguments)).decode(),
                started=self._now(),
                seconds=0.0,
                reason="",
            )
            session.add(row)
            session.flush()
            wanted = select(RoundRow).where(RoundRow.run == run, RoundRow.stage == stage)
            return rows.read_rounds(session, wanted.where(RoundRow.round == index))[-1]

    def set_round_state(
        self,
        key: RoundKey,
        state: RoundState,
        *,
        aggregate: Digest | None = None,
        known_weight: float | None = None,
        seconds: float = 0.0,
        reason: str = "",
    ) -> RoundRecord:
        """Move an attempt on; `closed` and `abandoned` end it.

        Args:
            key: Which attempt.
            state: Its new state.
            aggregate: Digest of the new global state, with `summed`.
            known_weight: Weight of all known sites, with `summed`.
            seconds: Worked on the attempt since its last state; added to what it has.
            reason: Why, with `abandoned`.

        Raises:
            TransitionError: The state cannot follow the present one.
        """
        if (aggregate is not None) != (state is RoundState.SUMMED):
            raise ValueError("an aggregate comes with `summed`, and with nothing else")
        with writing(self._engine) as session:
            row = rows.find_round(session, key)
            require_round_transition(RoundState(row.state), state)
            row.state, row.reason = state.value, reason
            row.seconds += seconds
            if aggregate is not None:
                row.aggregate = aggregate
                row.known_weight = known_weight
            if state in (RoundState.CLOSED, RoundState.ABANDONED):
                row.ended = self._now()
            session.flush()
            return rows.read_rounds(
                session, select(RoundRow).where(*rows.of_attempt(RoundRow, key))
            )[0]

    def put_site_round(self, key: RoundKey, site: SiteRound) -> None:
        """Write where one site stands in an attempt; replaces what was written before."""
        with writing(self._engine) as session:
            rows.find_round(session, key)
            held = session.get(SiteRoundRow, (*rows.parts(key), site.site))
            now = self._now()
            asked = site.asked or (held.asked if held is not None else None) or now
            answered = site.answered or (None if site.state is SiteState.ASKED else now)
            stamped = replace(site, asked=asked, answered=answered)
            session.merge(rows.site_row(key, stamped))

    def put_metrics(self, key: RoundKey, stats: Mapping[SiteId, Mapping[str, Stat]]) -> None:
        """Write an attempt's validation figures by site and metric; replaces them all."""
        with writing(self._engine) as session:
            rows.find_round(session, key)
            session.execute(delete(RoundMetricRow).where(*rows.of_attempt(RoundMetricRow, key)))
            session.add_all(
                rows.metric_row(key, site, metric, stat)
                for site, metrics in stats.items()
                for metric, stat in metrics.items()
            )

    def rounds(
        self, run: RunId, *, stage: int | None = None, index: int | None = None
    ) -> tuple[RoundRecord, ...]:
        """Every attempt of a run, of one stage or at one round, in order, with all that belongs."""
        wanted = select(RoundRow).where(RoundRow.run == run)
        if stage is not None:
            wanted = wanted.where(RoundRow.stage == stage)
        if index is not None:
            wanted = wanted.where(RoundRow.round == index)
        with reading(self._engine) as session:
            return rows.read_rounds(session, wanted)

    # --- what a run leaves --------------------------------------------------------------------

    def add_checkpoint(
        self,
        run: RunId,
        *,
        stage: int,
        round: int,  # noqa: A002  # the field's word
        kind: CheckpointKind,
        digest: Digest,
        name: str = "",
    ) -> None:
        """Keep weights; one of the same stage, round, kind and name is replaced."""
        with writing(self._engine) as session:
            rows.find_run(session, run)
            session.merge(
                CheckpointRow(
                    run=run, stage=stage, round=round, kind=kind.value, digest=digest, name=name
                )
            )

    def checkpoints(
        self, run: RunId, *, kind: CheckpointKind | None = None
    ) -> tuple[CheckpointRecord, ...]:
        """Weights that are kept, by stage, round, kind and name."""
        wanted = select(CheckpointRow).where(CheckpointRow.run == run)
        if kind is not None:
            wanted = wanted.where(CheckpointRow.kind == kind.value)
        with reading(self._engine) as session:
            found = session.scalars(
                wanted.order_by(
                    CheckpointRow.stage, CheckpointRow.round, CheckpointRow.kind, CheckpointRow.name
                )
            )
            return tuple(rows.checkpoint_record(row) for row in found)

    def put_evaluation(self, run: RunId, *, model: str, site: SiteId, sums: MetricSums) -> None:
        """Keep how a model did on a site's test cases; replaces an earlier one."""
        arrays, keys = to_arrays(sums)
        # safetensors writes memory as it lies: a transposed array would come back with its values
        # under other metrics' names.
        ordered = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        with writing(self._engine) as session:
            rows.find_run(session, run)
            session.merge(
                EvaluationRow(
                    run=run,
                    model=model,
                    site=site,
                    keys_json=json.dumps(keys),
                    arrays=safetensors.numpy.save(ordered),
                )
            )

    def evaluations(self, run: RunId, *, model: str) -> dict[SiteId, MetricSums]:
        """How a model did, by site, sorted."""
        with reading(self._engine) as session:
            found = session.scalars(
                select(EvaluationRow)
                .where(EvaluationRow.run == run, EvaluationRow.model == model)
                .order_by(EvaluationRow.site)
            )
            return {
                SiteId(row.site): from_arrays(
                    safetensors.numpy.load(row.arrays),
                    keys=cast("list[str]", json.loads(row.keys_json)),
                )
                for row in found
            }
