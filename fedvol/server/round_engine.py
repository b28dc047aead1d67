"""One round: ask, collect, sum, evaluate, close; each step written before the next begins."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedvol.config.evaluation import SegmentationMetric
from fedvol.errors import ContributionError, NoLabelsError, TimeLimitError
from fedvol.federation import (
    Action,
    Exchange,
    HealthReport,
    Link,
    MetricSums,
    Reply,
    Request,
    RoundArguments,
    RoundState,
    SiteState,
    Stat,
    Strategy,
    check_evaluation,
    check_update,
    companion_specs,
    merge,
    next_global,
)
from fedvol.plan import Plan, class_names, metric_keys, selection_metrics
from fedvol.server.clock import Clock
from fedvol.server.history import (
    closed_rounds,
    contributions,
    global_losses,
    known_weight,
    last_taken,
    participants,
)
from fedvol.store import ALL_SITES, BlobStore, RoundRecord, RunStore, SiteRound
from fedvol.telemetry import Observer
from fedvol.types import Digest, Json, RunId, SiteId, State


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEngine:
    """Plays rounds of one stage; holds no state but what is in the store.

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
        clock: Time.
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
    clock: Clock
    observer: Observer

    def play(
        self, link: Link, *, index: int, base: Digest, health: Mapping[SiteId, HealthReport]
    ) -> RoundRecord:
        """Bring a round to `closed` or `abandoned`, from wherever its record stands.

        Args:
            link: To the sites.
            index: Which round, from 1.
            base: Global state it starts from.
            health: Who is asked, sorted, and what each said of its data.
        """
        watch = _Stopwatch(self.clock)
        record = self._record(index)
        if record is None or record.state is RoundState.ABANDONED:
            record = self.store.open_round(
                self.run,
                stage=self.stage,
                index=index,
                base=base,
                arguments=self._new_arguments(index).as_json(),
            )
        if record.state is RoundState.OPEN:
            record = self._move(record, RoundState.COLLECTING, watch)
        if record.state is RoundState.COLLECTING:
            self._collect(link, record, health)
            record = self._sum(self._reread(record), health, watch)
        if record.state is RoundState.SUMMED:
            self._evaluate(link, record, health)
            record = self._move(record, RoundState.EVALUATED, watch)
        if record.state is RoundState.EVALUATED:
            record = self._move(record, RoundState.CLOSED, watch)
        return record

    # --- collecting ---------------------------------------------------------------------------

    def _collect(
        self, link: Link, record: RoundRecord, health: Mapping[SiteId, HealthReport]
    ) -> None:
        done = {site.site for site in participants(record)}
        waiting = [site for site in health if site not in done]
        state = self._read_global(record.base)
        if self.exchange.companions:
            state = {**state, **self._read_companions(record)}
        arguments = self._arguments(record, waiting)
        limit_s = self.plan.study.federation.train_limit_s
        requests = {
            site: replace(
                self._request(record, site, self.action, state=state, limit_s=limit_s),
                arguments=arguments[site].as_json(),
            )
            for site in waiting
        }
        for site in waiting:
            self.store.put_site_round(record.key, SiteRound(site=site, state=SiteState.ASKED))
        for reply in link.ask(list(requests.values())):
            if reply.site in requests:
                cases = health[reply.site].training_cases
                self._take(record, requests[reply.site], reply, cases=cases)
        for site in self._reread(record).sites:
            if site.state is SiteState.ASKED:
                self.store.put_site_round(
                    record.key,
                    SiteRound(
                        site=site.site,
                        state=SiteState.SILENT,
                        code=TimeLimitError.code,
                        title=TimeLimitError.title,
                    ),
                )
                self.observer.event("site.silent", site=site.site, round=record.index)

    def _take(
        self, record: RoundRecord, request: Request, reply: Reply, *, cases: int | None
    ) -> None:
        """Check one reply; spool it or record why not. A bad reply never ends the run."""
        if reply.code:
            no_labels = reply.code == NoLabelsError.code
            self._refused(
                record,
                request,
                reply,
                code=reply.code,
                title=reply.title,
                state=SiteState.NO_LABELS if no_labels else SiteState.REFUSED,
            )
            return
        try:
            report = check_update(
                reply,
                request=request,
                travelling=self.exchange.up,
                steps=self._steps,
                cases=cases,
            )
            weight = (
                self.strategy.weight(cases=report.cases, steps=report.steps)
                if self.strategy is not None
                else None
            )
        except ContributionError as error:
            self._refused(
                record,
                request,
                reply,
                code=error.code,
                title=error.title,
                detail=str(error),
                state=SiteState.TRAINED,
            )
            return
        blob = (
            self.blobs.put(
                ((spec.name, reply.tensors[spec.name]) for spec in self.exchange.up),
                metadata={"run": self.run, "round": str(record.index), "site": request.site},
            )
            if self.exchange.up
            else None
        )
        state = SiteState.CONTRIBUTED if self.exchange.up else SiteState.PERSONALISED
        self.store.put_site_round(
            record.key,
            SiteRound(
                site=request.site,
                state=state,
                cases=report.cases,
                steps=report.steps,
                train_seconds=report.train_seconds,
                loss=report.loss,
                bytes_up=reply.bytes_up,
                bytes_down=reply.bytes_down,
                weight=weight,
                blob=blob,
            ),
        )
        self.observer.event(
            f"site.{state.value}",
            site=request.site,
            round=record.index,
            cases=report.cases,
            steps=report.steps,
            seconds=report.train_seconds,
            loss=report.loss,
        )

    def _refused(
        self,
        record: RoundRecord,
        request: Request,
        reply: Reply,
        *,
        code: str,
        title: str,
        state: SiteState,
        detail: str = "",
    ) -> None:
        self.store.put_site_round(
            record.key,
            SiteRound(
                site=request.site,
                state=state,
                code=code,
                title=title,
                bytes_up=reply.bytes_up,
                bytes_down=reply.bytes_down,
            ),
        )
        self.observer.event(
            "site.refused",
            site=request.site,
            round=record.index,
            code=code,
            title=title,
            detail=detail,
        )

    # --- summing ------------------------------------------------------------------------------

    def _sum(
        self, record: RoundRecord, health: Mapping[SiteId, HealthReport], watch: "_Stopwatch"
    ) -> RoundRecord:
        took_part = participants(record)
        minimum = self.plan.study.federation.min_sites
        if len(took_part) < minimum:
            verb = "contributed" if self.exchange.up else "trained"
            reason = f"{len(took_part)} of at least {minimum} sites {verb}"
            self.observer.event(
                "round.abandoned", stage=self.stage, round=record.index, reason=reason
            )
            return self._move(record, RoundState.ABANDONED, watch, reason=reason)
        if not self.exchange.up:
            return self._move(record, RoundState.SUMMED, watch, aggregate=record.base)
        known, known_before = self._known_weight(record, health)
        aggregate = self.blobs.put(
            self._new_global(record, known=known, known_before=known_before),
            metadata={
                "plan": self.plan.digest,
                "architecture": self.plan.network.architecture,
                "round": str(record.index),
            },
        )
        return self._move(record, RoundState.SUMMED, watch, aggregate=aggregate, known_weight=known)

    def _known_weight(
        self, record: RoundRecord, health: Mapping[SiteId, HealthReport]
    ) -> tuple[float, float]:
        """Weight of all known sites in this round, and in the one before it.

        Where no companion travels nobody needs it, and it is the weight that contributed.
        """
        if self.strategy is None or not self.exchange.companions:
            total = sum(site.weight or 0.0 for site in contributions(record))
            return total, total
        closed = self._closed(before=record.index)
        known = known_weight(
            record, closed, health=health, strategy=self.strategy, steps=self._steps
        )
        before = closed[-1].known_weight if closed else None
        return known, known if before is None else before

    def _new_global(
        self, record: RoundRecord, *, known: float, known_before: float
    ) -> Iterator[tuple[str, NDArray[np.generic]]]:
        """The next global state, one tensor at a time, so that memory stays constant."""
        assert self.strategy is not None
        with ExitStack() as stack:
            present = stack.enter_context(self.blobs.open(record.base))
            updates = [
                (site.weight or 0.0, stack.enter_context(self.blobs.open(site.blob)))
                for site in contributions(record)
                if site.blob is not None
            ]
            yield from next_global(
                present,
                updates,
                exchange=self.exchange,
                strategy=self.strategy,
                is_first=record.index == 1,
                share=sum(weight for weight, _ in updates) / known,
                kept=known_before / known,
            )

    # --- evaluating ---------------------------------------------------------------------------

    def _evaluate(
        self, link: Link, record: RoundRecord, health: Mapping[SiteId, HealthReport]
    ) -> None:
        assert record.aggregate is not None
        state = self._read_global(record.aggregate)
        limit_s = self.plan.study.federation.evaluate_limit_s
        requests = [
            replace(
                self._request(record, site, Action.VALIDATE, state=state, limit_s=limit_s),
                arguments=self.judging_arguments,
            )
            for site in health
            if health[site].validation_cases
        ]
        parts = self.ask_for_sums(
            link, requests, metrics=selection_metrics(self.plan.study.evaluation)
        )
        stats = {site: _stats(part) for site, part in parts.items()}
        if parts:
            stats[ALL_SITES] = _stats(merge([parts[site] for site in sorted(parts)]))
        self.store.put_metrics(record.key, stats)

    def ask_for_sums(
        self,
        link: Link,
        requests: Sequence[Request],
        *,
        metrics: Sequence[SegmentationMetric],
        replicates: int = 0,
        on_part: Callable[[SiteId, MetricSums], None] | None = None,
    ) -> dict[SiteId, MetricSums]:
        """Ask sites to judge a model; those that refuse or stay silent are named and missing.

        Args:
            link: To the sites.
            requests: One a site.
            metrics: What is asked for.
            replicates: Bootstrap replicates that are asked for.
            on_part: Called with each site's sums as they arrive.
        """
        by_site = {request.site: request for request in requests}
        keys = metric_keys(metrics, class_names(self.plan.study.data))
        parts: dict[SiteId, MetricSums] = {}
        for reply in link.ask(requests):
            request = by_site.pop(reply.site, None)
            if request is None:
                continue
            try:
                if reply.code:
                    self._not_judged(request, code=reply.code, title=reply.title, detail="")
                    continue
                _, sums = check_evaluation(reply, request=request, keys=keys, replicates=replicates)
            except ContributionError as error:
                self._not_judged(request, code=error.code, title=error.title, detail=str(error))
                continue
            parts[request.site] = sums
            if on_part is not None:
                on_part(request.site, sums)
        for site, request in sorted(by_site.items()):
            self.observer.event("site.silent", site=site, round=request.round)
        return parts

    def _not_judged(self, request: Request, *, code: str, title: str, detail: str) -> None:
        self.observer.event(
            "site.refused",
            site=request.site,
            round=request.round,
            code=code,
            title=title,
            detail=detail,
        )

    # --- helpers ------------------------------------------------------------------------------

    def _request(
        self, record: RoundRecord, site: SiteId, action: Action, *, state: State, limit_s: float
    ) -> Request:
        return Request(
            run=self.run,
            plan=self.plan.digest,
            stage=self.stage,
            round=record.index,
            site=site,
            action=action,
            state=state,
            arguments={},
            limit_s=limit_s,
        )

    @property
    def _steps(self) -> int:
        return self.plan.study.stages[self.stage].steps_per_round

    @property
    def judging_arguments(self) -> Mapping[str, Json]:
        """What a site must know to judge the stage's model."""
        return RoundArguments(start_round=self.start_round).as_json()

    def _new_arguments(self, index: int) -> RoundArguments:
        if self.strategy is None:
            return RoundArguments(start_round=self.start_round)
        return self.strategy.arguments(self._losses(before=index))

    def _arguments(
        self, record: RoundRecord, sites: Sequence[SiteId]
    ) -> dict[SiteId, RoundArguments]:
        """What each site is told: the round's own arguments, and which of its rounds counted."""
        common = RoundArguments.model_validate(dict(record.arguments))
        if not self.exchange.companions:
            return dict.fromkeys(sites, common)
        taken = last_taken(self._closed(before=record.index))
        return {
            site: common.model_copy(update={"control_round": taken.get(site, 0)}) for site in sites
        }

    def _read_global(self, digest: Digest) -> State:
        with self.blobs.open(digest) as file:
            return {spec.name: file.read(spec.name) for spec in self.exchange.shared}

    def _read_companions(self, record: RoundRecord) -> State:
        """The companions that travel; zero before the first sum."""
        specs = companion_specs(self.exchange.shared, names=self.exchange.companions)
        if record.index == 1:
            return {spec.name: np.zeros(spec.shape, dtype=spec.dtype) for spec in specs}
        with self.blobs.open(record.base) as file:
            return {spec.name: file.read(spec.name) for spec in specs}

    def _losses(self, *, before: int) -> Iterator[float]:
        """Lazily: the record is read only by a strategy that wants the losses."""
        yield from global_losses(self._closed(before=before))

    def _closed(self, *, before: int) -> tuple[RoundRecord, ...]:
        rounds = closed_rounds(self.store.rounds(self.run, stage=self.stage))
        return tuple(record for record in rounds if record.index < before)

    def _record(self, index: int) -> RoundRecord | None:
        records = self.store.rounds(self.run, stage=self.stage, index=index)
        return records[-1] if records else None

    def _reread(self, record: RoundRecord) -> RoundRecord:
        found = self._record(record.index)
        assert found is not None
        return found

    def _move(
        self,
        record: RoundRecord,
        state: RoundState,
        watch: "_Stopwatch",
        *,
        aggregate: Digest | None = None,
        known_weight: float | None = None,
        reason: str = "",
    ) -> RoundRecord:
        return self.store.set_round_state(
            record.key,
            state,
            aggregate=aggregate,
            known_weight=known_weight,
            seconds=watch.lap_s(),
            reason=reason,
        )


class _Stopwatch:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_s = clock.monotonic_s()

    def lap_s(self) -> float:
        """Seconds since the last lap, or since the start."""
        before, self._last_s = self._last_s, self._clock.monotonic_s()
        return self._last_s - before


def _stats(sums: MetricSums) -> dict[str, Stat]:
    return {key: sums.stat(key) for key in sums.keys}
