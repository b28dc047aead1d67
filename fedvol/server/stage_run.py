"""`StageRun`: one stage of a run, as its record and its weights stand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from fedvol.config.metrics import PRETEXT_LOSS
from fedvol.config.strategy import Finetune, Personalise, Pretrain, Stage
from fedvol.federation import (
    Action,
    Exchange,
    HealthReport,
    Request,
    RoundArguments,
    Strategy,
    build_strategy,
    companion_specs,
    plan_exchange,
)
from fedvol.plan import Plan, class_names, metric_keys, pretext_metrics, selection_metrics
from fedvol.server.history import best_record, closed_rounds, global_losses, last_taken
from fedvol.store import BlobStore, RoundRecord, RunStore
from fedvol.telemetry import Observer
from fedvol.types import Digest, Json, RunId, SiteId, State


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """What the rounds of one stage share; holds no state but what is in the store.

    Attributes:
        run: The run.
        plan: Its plan.
        stage: Index of the stage.
        exchange: Which tensors travel.
        action: What sites that train are asked to do.
        strategy: How updates are combined; None where nothing comes up to combine.
        start_round: Personalise: the round whose global state was released.
        store: Records.
        blobs: Global states and contributions.
        observer: Hears of progress.
    """

    run: RunId
    plan: Plan
    stage: int
    exchange: Exchange
    action: Action
    strategy: Strategy | None
    start_round: int | None
    store: RunStore
    blobs: BlobStore
    observer: Observer

    @property
    def steps(self) -> int:
        """Gradient steps of a site in a round."""
        return self.plan.study.stages[self.stage].steps_per_round

    @property
    def rounds(self) -> int:
        """Rounds of the stage."""
        return self.plan.study.stages[self.stage].rounds

    @property
    def is_pretraining(self) -> bool:
        """Whether it trains on unlabelled cases."""
        return self.action is Action.PRETRAIN

    @property
    def select_by(self) -> str:
        """The metric that chooses its best round."""
        return PRETEXT_LOSS if self.is_pretraining else self.plan.study.evaluation.select_by

    @property
    def releases_last(self) -> bool:
        """Whether its last round is taken, whatever its figures."""
        return not self.is_pretraining and self.plan.study.evaluation.release == "last"

    def validation_keys(self, round_index: int) -> tuple[str, ...]:
        """What is measured on validation cases after a round, counted from 1."""
        study = self.plan.study
        stage = study.stages[self.stage]
        if isinstance(stage, Pretrain):
            return pretext_metrics(stage, is_probed=stage.is_probed(round_index))
        return metric_keys(selection_metrics(study.evaluation), class_names(study.data))

    def cases_of(self, report: HealthReport) -> int:
        """Cases that a site trains on in this stage."""
        return report.pretraining_cases if self.is_pretraining else report.training_cases

    @property
    def judging_arguments(self) -> Mapping[str, Json]:
        """What a site must know to judge the stage's model."""
        return RoundArguments(start_round=self.start_round).as_json()

    def metadata(self, round_index: int) -> dict[str, str]:
        """What a file of global weights says of itself."""
        return {
            "plan": self.plan.digest,
            "architecture": self.plan.network_of(self.stage).architecture,
            "round": str(round_index),
        }

    def request(
        self,
        site: SiteId,
        action: Action,
        *,
        round_index: int,
        state: State,
        arguments: Mapping[str, Json],
        limit_s: float,
    ) -> Request:
        """What one site is asked.

        Args:
            site: Which site.
            action: What it is asked to do.
            round_index: In which round; 1 for the first.
            state: Tensors that go down.
            arguments: What it must know beside them.
            limit_s: Seconds until it counts as silent.
        """
        return Request(
            run=self.run,
            plan=self.plan.digest,
            stage=self.stage,
            round=round_index,
            site=site,
            action=action,
            state=state,
            arguments=arguments,
            limit_s=limit_s,
        )

    def new_arguments(self, index: int) -> RoundArguments:
        """What every site is told in a new round; it follows from the rounds before alone."""
        if self.strategy is None:
            return RoundArguments(start_round=self.start_round)
        return self.strategy.schedule.arguments(self._losses(before=index))

    def arguments_of(
        self, record: RoundRecord, sites: Sequence[SiteId]
    ) -> dict[SiteId, RoundArguments]:
        """What each site is told: the round's own arguments, and which of its rounds counted."""
        common = RoundArguments.model_validate(dict(record.arguments))
        if not self.exchange.companions:
            return dict.fromkeys(sites, common)
        taken = last_taken(self.closed(before=record.index))
        return {
            site: common.model_copy(update={"control_round": taken.get(site, 0)}) for site in sites
        }

    def read_global(self, digest: Digest) -> State:
        """The shared tensors of a global state."""
        with self.blobs.open(digest) as file:
            return {spec.name: file.read(spec.name) for spec in self.exchange.shared}

    def read_down(self, record: RoundRecord) -> State:
        """What goes to every site that trains: the global state, and companions that travel."""
        state = self.read_global(record.base)
        if self.exchange.companions:
            state = {**state, **self._read_companions(record)}
        return state

    def closed(self, *, before: int) -> tuple[RoundRecord, ...]:
        """The closed rounds before a round, in order."""
        rounds = closed_rounds(self.store.rounds(self.run, stage=self.stage))
        return tuple(record for record in rounds if record.index < before)

    def record(self, index: int) -> RoundRecord | None:
        """The last attempt at a round."""
        records = self.store.rounds(self.run, stage=self.stage, index=index)
        return records[-1] if records else None

    def closed_record(self, index: int) -> RoundRecord | None:
        """The attempt at a round that is closed."""
        records = closed_rounds(self.store.rounds(self.run, stage=self.stage, index=index))
        return records[0] if records else None

    def best(self) -> RoundRecord | None:
        """The closed round that the study would release now; None before the first is closed."""
        closed = closed_rounds(self.store.rounds(self.run, stage=self.stage))
        if closed and self.releases_last:
            return closed[-1]
        return best_record(closed, select_by=self.select_by)

    def reread(self, record: RoundRecord) -> RoundRecord:
        """The record as it stands now."""
        found = self.record(record.index)
        assert found is not None
        return found

    def _read_companions(self, record: RoundRecord) -> State:
        """The companions that travel; zero before the first sum."""
        specs = companion_specs(self.exchange.shared, names=self.exchange.companions)
        if record.index == 1:
            return {spec.name: np.zeros(spec.shape, dtype=spec.dtype) for spec in specs}
        with self.blobs.open(record.base) as file:
            return {spec.name: file.read(spec.name) for spec in specs}

    def _losses(self, *, before: int) -> Iterator[float]:
        """Lazily: the record is read only by a strategy that wants the losses."""
        yield from global_losses(self.closed(before=before))


def stage_run(
    stage: int,
    *,
    run: RunId,
    plan: Plan,
    start_round: int | None,
    store: RunStore,
    blobs: BlobStore,
    observer: Observer,
) -> StageRun:
    """A stage of a run, as its plan describes it.

    Args:
        stage: Index of the stage.
        run: The run.
        plan: Its plan.
        start_round: Personalise: the round whose global state was released.
        store: Records.
        blobs: Global states and contributions.
        observer: Hears of progress.
    """
    settings = plan.study.stages[stage]
    is_personal = isinstance(settings, Personalise)
    return StageRun(
        run=run,
        plan=plan,
        stage=stage,
        exchange=plan_exchange(plan, stage),
        action=_action(settings),
        strategy=None if isinstance(settings, Personalise) else build_strategy(settings.strategy),
        start_round=start_round if is_personal else None,
        store=store,
        blobs=blobs,
        observer=observer,
    )


def _action(stage: Stage) -> Action:
    match stage:
        case Pretrain():
            return Action.PRETRAIN
        case Finetune():
            return Action.FINETUNE
        case Personalise():
            return Action.PERSONALISE
        case _:
            assert_never(stage)
