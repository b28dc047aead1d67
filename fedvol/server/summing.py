"""Summing a round: contributions and the present global state become the next one."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from fedvol.federation import HealthReport, next_global
from fedvol.server.history import contributions, known_weight
from fedvol.server.stage_run import StageRun
from fedvol.store import RoundRecord
from fedvol.types import Digest, SiteId


def put_new_global(
    stage: StageRun, record: RoundRecord, *, health: Mapping[SiteId, HealthReport]
) -> tuple[Digest, float]:
    """Write the next global state, one tensor at a time, so that memory stays constant.

    Args:
        stage: The stage.
        record: The round, with its contributions.
        health: What the sites that are there said of their data.

    Returns:
        The digest of the new global state, and the weight of all known sites.
    """
    known, known_before = _known_weight(stage, record, health=health)
    digest = stage.blobs.put(
        _new_global(stage, record, known=known, known_before=known_before),
        metadata=stage.metadata(record.index),
    )
    return digest, known


def _known_weight(
    stage: StageRun, record: RoundRecord, *, health: Mapping[SiteId, HealthReport]
) -> tuple[float, float]:
    """Weight of all known sites in this round, and in the one before it.

    Where no companion travels nobody needs it, and it is the weight that contributed.
    """
    if stage.strategy is None or not stage.exchange.companions:
        total = sum(site.weight or 0.0 for site in contributions(record))
        return total, total
    closed = stage.closed(before=record.index)
    cases = {site: stage.cases_of(report) for site, report in health.items()}
    known = known_weight(record, closed, cases=cases, strategy=stage.strategy)
    before = closed[-1].known_weight if closed else None
    return known, known if before is None else before


def _new_global(
    stage: StageRun, record: RoundRecord, *, known: float, known_before: float
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    assert stage.strategy is not None
    with ExitStack() as stack:
        present = stack.enter_context(stage.blobs.open(record.base))
        updates = [
            (site.weight or 0.0, stack.enter_context(stage.blobs.open(site.blob)))
            for site in contributions(record)
            if site.blob is not None
        ]
        yield from next_global(
            present,
            updates,
            exchange=stage.exchange,
            optimiser=stage.strategy.optimiser,
            is_first=record.index == 1,
            share=sum(weight for weight, _ in updates) / known,
            kept=known_before / known,
        )
