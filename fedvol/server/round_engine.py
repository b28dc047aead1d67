"""One round: ask, collect, sum, validate, close; each step written before the next begins."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedvol.federation import HealthReport, Link, RoundState
from fedvol.server.clock import Clock
from fedvol.server.collecting import collect
from fedvol.server.history import participants
from fedvol.server.judging import validate
from fedvol.server.stage_run import StageRun
from fedvol.server.summing import put_new_global
from fedvol.store import RoundRecord
from fedvol.types import Digest, SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEngine:
    """Plays rounds of one stage; holds no state but what is in the store.

    Attributes:
        stage: The stage.
        clock: Time.
    """

    stage: StageRun
    clock: Clock

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
        stage = self.stage
        record = stage.record(index)
        if record is None or record.state is RoundState.ABANDONED:
            record = stage.store.open_round(
                stage.run,
                stage=stage.stage,
                index=index,
                base=base,
                arguments=stage.new_arguments(index).as_json(),
            )
        if record.state is RoundState.OPEN:
            record = self._move(record, RoundState.COLLECTING, watch)
        if record.state is RoundState.COLLECTING:
            collect(stage, link, record, health=health)
            record = self._sum(stage.reread(record), health, watch)
        if record.state is RoundState.SUMMED:
            validate(stage, link, record, health=health)
            record = self._move(record, RoundState.EVALUATED, watch)
        if record.state is RoundState.EVALUATED:
            record = self._move(record, RoundState.CLOSED, watch)
        return record

    def _sum(
        self, record: RoundRecord, health: Mapping[SiteId, HealthReport], watch: "_Stopwatch"
    ) -> RoundRecord:
        stage = self.stage
        took_part = participants(record)
        minimum = stage.plan.study.federation.min_sites
        if len(took_part) < minimum:
            verb = "contributed" if stage.exchange.up else "trained"
            reason = f"{len(took_part)} of at least {minimum} sites {verb}"
            stage.observer.event(
                "round.abandoned", stage=stage.stage, round=record.index, reason=reason
            )
            return self._move(record, RoundState.ABANDONED, watch, reason=reason)
        if not stage.exchange.up:
            return self._move(record, RoundState.SUMMED, watch, aggregate=record.base)
        aggregate, known = put_new_global(stage, record, health=health)
        return self._move(record, RoundState.SUMMED, watch, aggregate=aggregate, known_weight=known)

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
        return self.stage.store.set_round_state(
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
