"""`Coordinator`: carries a run from its plan to a release, and on from any record of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedvol.config.strategy import Personalise
from fedvol.errors import (
    FedvolError,
    PlanMismatchError,
    QuorumError,
    StoreError,
)
from fedvol.federation import (
    Action,
    Candidate,
    HealthReport,
    Link,
    MetricSums,
    Request,
    RoundState,
    RunState,
    best_round,
    build_strategy,
    stage_exchange,
)
from fedvol.plan import Plan, state_digest
from fedvol.server.clock import Clock
from fedvol.server.health import ask_health
from fedvol.server.norms import mean_norms
from fedvol.server.round_engine import RoundEngine
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
    ) -> None:
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
            PlanMismatchError: The record belongs to another plan.
            TransportError: The link is down; the run can be resumed.
        """
        resumed = self._begin()
        try:
            outcome = self._play(link, resumed=resumed)
        except FedvolError as error:
            self._fail(error)
            raise
        if self._state() is not RunState.FINISHED:
            self._store.set_run_state(self._run, RunState.FINISHED)
        self._observer.event("run.finished", name=self._run, status="finished")
        return outcome

    def test(self, link: Link, outcome: Outcome) -> dict[SiteId, MetricSums]:
        """Have every site judge the release on its test cases; answers already held are kept.

        Args:
            link: To the sites.
            outcome: The finished run.

        Raises:
            QuorumError: A site with test cases did not answer; figures over a subset are refused.
        """
        return self._test(link, outcome, stage=0, round_index=outcome.best_round, model=self._run)

    def test_personal(self, link: Link, outcome: Outcome) -> dict[SiteId, MetricSums]:
        """Have every site judge its own personal model on its own test cases; the same rules.

        A site that never trained one judges the release in its place.

        Args:
            link: To the sites.
            outcome: The finished run; its study has a personalise stage.

        Raises:
            QuorumError: A site with test cases did not answer; figures over a subset are refused.
        """
        assert outcome.personal_round is not None
        model = f"{self._run}/personalised"
        return self._test(link, outcome, stage=1, round_index=outcome.personal_round, model=model)

    def _test(
        self, link: Link, outcome: Outcome, *, stage: int, round_index: int, model: str
    ) -> dict[SiteId, MetricSums]:
        absent = sorted(set(self._plan.sites) - outcome.health.keys())
        if absent:
            raise QuorumError(
                f"run {self._run}",
                f"no test figures from {', '.join(absent)}, which did not answer",
                "Bring every site of the plan back and start again with --resume.",
            )
        held = self._store.evaluations(self._run, model=model)
        with self._blobs.open(outcome.release) as file:
            state = file.read_all()
        missing = [
            site
            for site, health in outcome.health.items()
            if health.test_cases and site not in held
        ]
        engine = self._engine(stage, start_round=outcome.best_round)
        parts = engine.ask_for_sums(
            link,
            [
                Request(
                    run=self._run,
                    plan=self._plan.digest,
                    stage=engine.stage,
                    round=round_index,
                    site=site,
                    action=Action.TEST,
                    state=state,
                    arguments=engine.judging_arguments,
                    limit_s=self._plan.study.federation.evaluate_limit_s,
                )
                for site in missing
            ],
            metrics=self._plan.study.evaluation.metrics,
            replicates=self._plan.study.evaluation.bootstrap_replicates,
            on_part=lambda site, sums: self._store.put_evaluation(
                self._run, model=model, site=site, sums=sums
            ),
        )
        silent = sorted(set(missing) - parts.keys())
        if silent:
            raise QuorumError(
                f"run {self._run}",
                f"no test figures from {', '.join(silent)}",
                "Look at these sites and start again with --resume.",
            )
        return {**held, **parts}

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
            if state_digest(self._initial) != self._plan.network.initial_digest:
                raise PlanMismatchError(
                    f"run {self._run}",
                    "the initial weights are not those of the plan",
                    "Build plan and weights from one study with one version of fedvol.",
                )
            self._store.create_run(self._run, plan=self._plan)
            digest = self._blobs.put(self._initial.items(), metadata=self._metadata(0))
            self._store.add_checkpoint(
                self._run, stage=0, round=0, kind=CheckpointKind.INITIAL, digest=digest
            )
            self._store.set_run_state(self._run, RunState.RUNNING)
            return False
        self._plan.require_same(record.plan_digest, where=f"run {self._run}")
        if not self._store.checkpoints(self._run, kind=CheckpointKind.INITIAL):
            digest = self._blobs.put(self._initial.items(), metadata=self._metadata(0))
            self._store.add_checkpoint(
                self._run, stage=0, round=0, kind=CheckpointKind.INITIAL, digest=digest
            )
        if record.state in (RunState.PROPOSED, RunState.FAILED, RunState.PAUSED):
            self._store.set_run_state(self._run, RunState.RUNNING)
        return True

    def _play(self, link: Link, *, resumed: bool) -> Outcome:
        health = ask_health(link, run=self._run, plan=self._plan, observer=self._observer)
        self._observer.event(
            "run.started",
            name=self._run,
            plan=self._plan.digest,
            sites=list(health),
            stages=[stage.kind for stage in self._plan.study.stages],
            resumed=resumed,
        )
        initial = self._store.checkpoints(self._run, kind=CheckpointKind.INITIAL)[0].digest
        self._play_stage(link, self._engine(0), base=initial, health=health)
        best = self._best(0)
        assert best is not None
        releases = self._store.checkpoints(self._run, kind=CheckpointKind.RELEASE)
        release = releases[-1].digest if releases else self._release(link, best, health)
        personal = None
        if self._plan.study.personalise is not None:
            engine = self._engine(1, start_round=best.index)
            self._play_stage(link, engine, base=release, health=health)
            personal = self._best(1)
            assert personal is not None
        self._blobs.prune(keep={c.digest for c in self._store.checkpoints(self._run)})
        return Outcome(
            release=release,
            best_round=best.index,
            personal_round=personal.index if personal is not None else None,
            health=health,
        )

    def _play_stage(
        self,
        link: Link,
        engine: RoundEngine,
        *,
        base: Digest,
        health: Mapping[SiteId, HealthReport],
    ) -> None:
        stage = engine.stage
        rounds = self._plan.study.stages[stage].rounds
        abandoned = 0
        index = 1
        while index <= rounds:
            played = self._closed(stage, index)
            if played is None:
                self._observer.event(
                    "round.opened", stage=stage, round=index, rounds=rounds, sites=list(health)
                )
                played = engine.play(link, index=index, base=base, health=health)
                self._after_round(played, rounds)
            if played.state is RoundState.ABANDONED:
                abandoned += 1
                if abandoned > self._plan.study.federation.max_abandoned_rounds:
                    raise QuorumError(
                        f"run {self._run} round {index}",
                        f"abandoned {abandoned} times in a row: {played.reason}",
                        "Look at the sites' reasons in the record, then resume the run.",
                    )
                continue
            abandoned = 0
            assert played.aggregate is not None
            base = played.aggregate
            index += 1

    def _after_round(self, played: RoundRecord, rounds: int) -> None:
        if played.state is not RoundState.CLOSED:
            return
        best = self._best(played.stage)
        key = self._plan.study.evaluation.select_by
        stat = played.metrics.get(ALL_SITES, {}).get(key)
        self._observer.event(
            "round.closed",
            stage=played.stage,
            round=played.index,
            rounds=rounds,
            seconds=played.seconds,
            metric=key,
            value=stat.value if stat else None,
            best_round=best.index if best else None,
        )
        self._prune(played, best)

    def _prune(self, last: RoundRecord, best: RoundRecord | None) -> None:
        keep = {c.digest for c in self._store.checkpoints(self._run)}
        keep |= {r.aggregate for r in (last, best) if r is not None and r.aggregate is not None}
        self._blobs.prune(keep=keep)

    # --- the release --------------------------------------------------------------------------

    def _release(
        self, link: Link, best: RoundRecord, health: Mapping[SiteId, HealthReport]
    ) -> Digest:
        """Write the best round's global state, with the mean of what stayed local where any did."""
        assert best.aggregate is not None
        exchange = self._engine(best.stage).exchange
        with self._blobs.open(best.aggregate) as file:
            # Companions, such as a momentum, lie in the same file and are nobody's but ours.
            state = {spec.name: file.read(spec.name) for spec in exchange.shared}
        if local := exchange.local:
            state |= mean_norms(
                link,
                run=self._run,
                plan=self._plan,
                stage=best.stage,
                round=best.index,
                local=local,
                health=health,
                observer=self._observer,
            )
        ordered = [
            (spec.name, state[spec.name])
            for spec in self._plan.network.tensors
            if spec.name in state
        ]
        digest = self._blobs.put(ordered, metadata=self._metadata(best.index))
        self._store.add_checkpoint(
            self._run,
            stage=best.stage,
            round=best.index,
            kind=CheckpointKind.RELEASE,
            digest=digest,
        )
        return digest

    # --- helpers ------------------------------------------------------------------------------

    def _engine(self, stage: int, *, start_round: int | None = None) -> RoundEngine:
        settings = self._plan.study.stages[stage]
        is_personal = isinstance(settings, Personalise)
        return RoundEngine(
            run=self._run,
            plan=self._plan,
            stage=stage,
            exchange=stage_exchange(self._plan.network, stage=settings),
            action=Action.PERSONALISE if is_personal else Action.FINETUNE,
            strategy=None if is_personal else build_strategy(settings.strategy),
            start_round=start_round if is_personal else None,
            store=self._store,
            blobs=self._blobs,
            clock=self._clock,
            observer=self._observer,
        )

    def _closed(self, stage: int, index: int) -> RoundRecord | None:
        for record in self._store.rounds(self._run, stage=stage, index=index):
            if record.state is RoundState.CLOSED:
                return record
        return None

    def _best(self, stage: int) -> RoundRecord | None:
        closed = {
            record.index: record
            for record in self._store.rounds(self._run, stage=stage)
            if record.state is RoundState.CLOSED
        }
        key = self._plan.study.evaluation.select_by
        stats = {index: r.metrics.get(ALL_SITES, {}).get(key) for index, r in closed.items()}
        judged = {i: stat.n + stat.undefined for i, stat in stats.items() if stat}
        most = max(judged.values(), default=0)
        best = best_round(
            [
                # A round judged on fewer cases than others cannot be compared with them.
                Candidate(round=index, value=stat.value if stat and judged[index] == most else None)
                for index, stat in stats.items()
            ],
            select_by=key,
        )
        if best is not None:
            return closed[best]
        return closed[max(closed)] if closed else None

    def _state(self) -> RunState:
        record = self._store.run(self._run)
        assert record is not None
        return record.state

    def _metadata(self, round_index: int) -> dict[str, str]:
        return {
            "plan": self._plan.digest,
            "architecture": self._plan.network.architecture,
            "round": str(round_index),
        }
