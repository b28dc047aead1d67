"""`Coordinator`: carries a run from its plan to a release, and on from any record of it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from fedvol.config.model_names import PERSONALISED
from fedvol.errors import (
    FedvolError,
    QuorumError,
    RunPausedError,
    RunStoppedError,
    StoreError,
    TransportError,
)
from fedvol.federation import HealthReport, Link, MetricSums, RoundState, RunState
from fedvol.plan import Plan, Taken, network_part, pretext_part
from fedvol.server.clock import Clock
from fedvol.server.health import ask_health, ask_the_absent, cases_may_come, require_cases
from fedvol.server.judging import judge_release
from fedvol.server.learning_checks import require_spread, tell_if_trivial
from fedvol.server.pacing import Pacing, Unpaced
from fedvol.server.release import put_pretrained, put_release
from fedvol.server.round_engine import RoundEngine
from fedvol.server.stage_run import StageRun, stage_run
from fedvol.store import ALL_SITES, BlobStore, CheckpointKind, RoundRecord, RunStore
from fedvol.telemetry import Observer
from fedvol.types import Digest, RunId, SiteId, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a finished run left.

    Attributes:
        release: Digest of the released weights.
        best_round: Round they come from.
        personal_round: Round of the personalise stage whose personal models are tested; None
            where the study has no such stage.
        health: What each site said of its data.
    """

    release: Digest
    best_round: int
    personal_round: int | None
    health: Mapping[SiteId, HealthReport]


class Coordinator:
    """The server's side of one run. All state is in the store; it may be killed at any moment.

    Args:
        run: Name of the run.
        plan: What it does.
        initial: Initial weights, as the plan's digest names them.
        store: Records.
        blobs: Weights.
        clock: Time.
        observer: Hears of progress.
        pacing: When the run goes on; None: at once, always. Where it says that the operator
            paused or stopped the run, the run is left so.
    """

    def __init__(
        self,
        *,
        run: RunId,
        plan: Plan,
        initial: State,
        store: RunStore,
        blobs: BlobStore,
        clock: Clock,
        observer: Observer,
        pacing: Pacing | None = None,
    ) -> None:
        self._pacing = pacing or Unpaced()
        self._health: dict[SiteId, HealthReport] = {}
        self._run = run
        self._plan = plan
        self._initial = initial
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._observer = observer

    def conduct(self, link: Link) -> Outcome:
        """Bring the run to a final state, from wherever its record stands.

        Raises:
            QuorumError: Too few sites, too often; the run has failed, with this reason.
            FeaturesCollapsedError: A pretraining learns nothing; the run has failed, likewise.
            RunPausedError: It is paused, to be gone on with.
            RunStoppedError: It is stopped for good.
            PlanMismatchError: The record belongs to another plan.
            TransportError: The link is down; the run stays as it is, to be gone on with.
        """
        resumed = self._begin()
        try:
            outcome = self._play(link, resumed=resumed)
        except TransportError:
            raise
        except (RunPausedError, RunStoppedError) as error:
            self._leave(error)
            raise
        except FedvolError as error:
            self._fail(error)
            raise
        if self._state() is not RunState.FINISHED:
            self._store.set_run_state(self._run, RunState.FINISHED)
        self._observer.event("run.finished", name=self._run, status="finished")
        return outcome

    def test(
        self, link: Link, outcome: Outcome, *, judges: Collection[SiteId] | None = None
    ) -> dict[SiteId, MetricSums]:
        """Have every site judge the release on its test cases; answers already held are kept.

        Args:
            link: To the sites.
            outcome: The finished run.
            judges: Sites whose figures are wanted; None: those of the plan.

        Raises:
            QuorumError: A site with test cases did not answer; figures over a subset are refused.
        """
        return self._test(
            link,
            outcome,
            stage=self._plan.study.finetune_index,
            round_index=outcome.best_round,
            model=self._run,
            judges=judges,
        )

    def test_personal(
        self, link: Link, outcome: Outcome, *, judges: Collection[SiteId] | None = None
    ) -> dict[SiteId, MetricSums]:
        """Have every site judge its own personal model on its own test cases; the same rules.

        A site that never trained one judges the release in its place.

        Args:
            link: To the sites.
            outcome: The finished run; its study has a personalise stage.
            judges: Sites whose figures are wanted; None: those of the plan.

        Raises:
            QuorumError: A site with test cases did not answer; figures over a subset are refused.
        """
        assert outcome.personal_round is not None
        model = f"{self._run}/{PERSONALISED}"
        return self._test(
            link,
            outcome,
            stage=self._plan.study.finetune_index + 1,
            round_index=outcome.personal_round,
            model=model,
            judges=judges,
        )

    def _test(
        self,
        link: Link,
        outcome: Outcome,
        *,
        stage: int,
        round_index: int,
        model: str,
        judges: Collection[SiteId] | None,
    ) -> dict[SiteId, MetricSums]:
        return judge_release(
            self._stage(stage, start_round=outcome.best_round),
            link,
            release=outcome.release,
            round_index=round_index,
            model=model,
            health=outcome.health,
            judges=[SiteId(site) for site in self._plan.sites] if judges is None else judges,
        )

    def _leave(self, error: RunPausedError | RunStoppedError) -> None:
        """Record that an operator paused or stopped the run; a finished one stays finished."""
        if self._state() is not RunState.RUNNING:
            return
        state = RunState.PAUSED if isinstance(error, RunPausedError) else RunState.STOPPED
        self._store.set_run_state(self._run, state, reason=error.what)
        self._observer.event("run.left", name=self._run, status=state.value)

    def _fail(self, error: FedvolError) -> None:
        """Record why the run failed; a run that had finished stays finished."""
        if self._state() is not RunState.RUNNING:
            return
        try:
            self._store.set_run_state(self._run, RunState.FAILED, reason=str(error))
        except StoreError as second:
            # The store itself failed: the first error says more, and a resumption finds `running`.
            error.add_note(f"The failure could not be recorded: {second}")
        self._observer.event("run.finished", name=self._run, status="failed")

    # --- the run ------------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Write the run, or find it; returns whether it was there already."""
        record = self._store.run(self._run)
        if record is None:
            self._plan.require_initial(self._initial, where=f"run {self._run}")
            self._store.create_run(self._run, plan=self._plan)
            self._put_initial()
            self._store.set_run_state(self._run, RunState.RUNNING)
            return False
        self._plan.require_same(record.plan_digest, where=f"run {self._run}")
        if self._initial_of(0) is None:
            self._put_initial()
        if record.state in (RunState.PROPOSED, RunState.FAILED, RunState.PAUSED):
            self._store.set_run_state(self._run, RunState.RUNNING)
        return True

    def _play(self, link: Link, *, resumed: bool) -> Outcome:
        self._await_health(link)
        self._observer.event(
            "run.started",
            name=self._run,
            plan=self._plan.digest,
            sites=list(self._health),
            stages=[stage.kind for stage in self._plan.study.stages],
            resumed=resumed,
        )
        base = self._initial_of(0)
        assert base is not None
        index = self._plan.study.finetune_index
        if self._plan.pretraining is not None:
            pretrain = self._stage(0)
            best = self._play_stage(link, pretrain, base=base)
            tell_if_trivial(pretrain, best)
            pretrained = put_pretrained(pretrain, best)
            base = self._put_start(index, pretrained, taken=self._plan.pretraining.taken)
        finetune = self._stage(index)
        best = self._play_stage(link, finetune, base=base)
        release = put_release(finetune, link, best, health=self._health)
        personal = None
        if self._plan.study.personalise is not None:
            personalise = self._stage(index + 1, start_round=best.index)
            personal = self._play_stage(link, personalise, base=release)
        self._blobs.prune(keep=self._checkpoints())
        return Outcome(
            release=release,
            best_round=best.index,
            personal_round=personal.index if personal is not None else None,
            health=self._health,
        )

    def _await_health(self, link: Link) -> None:
        """Ask every site whether it would train, until enough of them would, in every stage.

        Raises:
            QuorumError: They would not, for as long as they are waited for; at once where it is
                cases or labels that are lacking, and no site that could have them is away.
        """
        lacking: QuorumError | None = None
        for _ in self._pacing.attempts():
            try:
                self._health = ask_health(
                    link, run=self._run, plan=self._plan, observer=self._observer
                )
                require_cases(self._health, run=self._run, plan=self._plan)
            except QuorumError as error:
                lacking = error
                if not cases_may_come(self._health, plan=self._plan):
                    break
            else:
                return
        assert lacking is not None
        raise lacking

    def _ask_the_absent(self, link: Link) -> None:
        """Take in the sites that were away before and are there now."""
        if not self._pacing.sites_return:
            return
        returned = ask_the_absent(
            link,
            run=self._run,
            plan=self._plan,
            health=self._health,
            observer=self._observer,
        )
        self._health = dict(sorted((self._health | returned).items()))

    def _play_stage(self, link: Link, stage: StageRun, *, base: Digest) -> RoundRecord:
        """Play every round that is not closed yet; returns the best of all."""
        engine = RoundEngine(stage=stage, clock=self._clock)
        abandoned = 0
        index = 1
        while index <= stage.rounds:
            played = stage.closed_record(index)
            if played is None:
                self._pacing.between_rounds()
                self._ask_the_absent(link)
                self._observer.event(
                    "round.opened",
                    stage=stage.stage,
                    round=index,
                    rounds=stage.rounds,
                    sites=list(self._health),
                )
                played = engine.play(link, index=index, base=base, health=self._health)
                self._after_round(stage, played)
            if played.state is RoundState.ABANDONED:
                abandoned += 1
                if abandoned > self._plan.study.federation.max_abandoned_rounds:
                    raise QuorumError(
                        f"run {self._run} round {index}",
                        f"abandoned {abandoned} times in a row: {played.reason}",
                        "Look at the sites' reasons in the record, then resume the run.",
                    )
                if self._pacing.sites_return:
                    self._await_health(link)
                continue
            abandoned = 0
            require_spread(stage, up_to=index)
            assert played.aggregate is not None
            base = played.aggregate
            index += 1
        self._pacing.between_rounds()
        best = stage.best()
        assert best is not None
        return best

    def _after_round(self, stage: StageRun, played: RoundRecord) -> None:
        if played.state is not RoundState.CLOSED:
            return
        best = stage.best()
        key = stage.select_by
        stats = played.metrics.get(ALL_SITES, {})
        stat = stats.get(key)
        self._observer.event(
            "round.closed",
            stage=stage.stage,
            round=played.index,
            rounds=stage.rounds,
            seconds=played.seconds,
            metric=key,
            value=stat.value if stat else None,
            further={k: one.value for k, one in stats.items() if k != key and "/" not in k},
            best_round=best.index if best and not stage.releases_last else None,
        )
        needed = {r.aggregate for r in (played, best) if r is not None and r.aggregate is not None}
        self._blobs.prune(keep=self._checkpoints() | needed)

    # --- helpers ------------------------------------------------------------------------------

    def _stage(self, stage: int, *, start_round: int | None = None) -> StageRun:
        return stage_run(
            stage,
            run=self._run,
            plan=self._plan,
            start_round=start_round,
            store=self._store,
            blobs=self._blobs,
            observer=self._observer,
        )

    def _checkpoints(self) -> set[Digest]:
        return {checkpoint.digest for checkpoint in self._store.checkpoints(self._run)}

    def _put_initial(self) -> None:
        is_pretrained = self._plan.pretraining is not None
        part = pretext_part if is_pretrained else network_part
        self._put_base(0, part(self._initial))

    def _put_start(self, stage: int, pretrained: Digest, *, taken: Iterable[Taken]) -> Digest:
        """Write what finetuning starts from: initial weights, and over them the pretrained ones.

        What stayed at the sites in pretraining is not there to be taken over.
        """
        held = self._initial_of(stage)
        if held is not None:
            return held
        with self._blobs.open(pretrained) as file:
            there = set(file.names)
            over = {one.target: file.read(one.source) for one in taken if one.source in there}
        return self._put_base(stage, {**network_part(self._initial), **over})

    def _put_base(self, stage: int, state: State) -> Digest:
        digest = self._blobs.put(state.items(), metadata=self._stage(stage).metadata(0))
        self._store.add_checkpoint(
            self._run, stage=stage, round=0, kind=CheckpointKind.INITIAL, digest=digest
        )
        return digest

    def _initial_of(self, stage: int) -> Digest | None:
        """Weights that a stage begins with; None before they are written."""
        for checkpoint in self._store.checkpoints(self._run, kind=CheckpointKind.INITIAL):
            if checkpoint.stage == stage:
                return checkpoint.digest
        return None

    def _state(self) -> RunState:
        record = self._store.run(self._run)
        assert record is not None
        return record.state
