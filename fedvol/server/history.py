"""What a round needs to know of the rounds before it; read from the record, never remembered."""

import math
from collections.abc import Iterable, Iterator, Mapping

from fedvol.federation import (
    TOOK_PART,
    Candidate,
    RoundState,
    SiteState,
    Strategy,
    best_round,
)
from fedvol.store import ALL_SITES, RoundRecord, SiteRound
from fedvol.types import SiteId


def closed_rounds(rounds: Iterable[RoundRecord]) -> tuple[RoundRecord, ...]:
    """The rounds that are closed, in order; other attempts left out."""
    closed = {record.index: record for record in rounds if record.state is RoundState.CLOSED}
    return tuple(closed[index] for index in sorted(closed))


def best_record(closed: Iterable[RoundRecord], *, select_by: str) -> RoundRecord | None:
    """The round to be released: the best by a validation metric, or the last where none is judged.

    A round judged on fewer cases than others cannot be compared with them, and is passed over.

    Args:
        closed: The closed rounds of one stage.
        select_by: Name of the metric.
    """
    records = {record.index: record for record in closed}
    stats = {i: record.metrics.get(ALL_SITES, {}).get(select_by) for i, record in records.items()}
    judged = {i: stat.n + stat.undefined for i, stat in stats.items() if stat}
    most = max(judged.values(), default=0)
    best = best_round(
        [
            Candidate(round=i, value=stat.value if stat and judged[i] == most else None)
            for i, stat in stats.items()
        ],
        select_by=select_by,
    )
    if best is not None:
        return records[best]
    return records[max(records)] if records else None


def participants(record: RoundRecord) -> tuple[SiteRound, ...]:
    """The sites whose part of a round is done: contributed, or kept a model of their own."""
    return tuple(site for site in record.sites if site.state in TOOK_PART)


def contributions(record: RoundRecord) -> tuple[SiteRound, ...]:
    """The sites whose updates are in a round's global state, sorted."""
    taken = [site for site in record.sites if site.state is SiteState.CONTRIBUTED]
    return tuple(sorted(taken, key=lambda site: site.site))


def global_losses(closed: Iterable[RoundRecord]) -> Iterator[float]:
    """Training loss of all sites together in each round, weighted as their updates are."""
    for record in closed:
        parts = [
            (site.weight, site.loss)
            for site in contributions(record)
            if site.weight is not None and site.loss is not None
        ]
        total = math.fsum(weight for weight, _ in parts)
        yield math.fsum(weight * loss for weight, loss in parts) / total


def last_taken(closed: Iterable[RoundRecord]) -> dict[SiteId, int]:
    """The last closed round that each site contributed to."""
    return {site.site: record.index for record in closed for site in contributions(record)}


def known_weight(
    record: RoundRecord,
    closed: Iterable[RoundRecord],
    *,
    cases: Mapping[SiteId, int],
    strategy: Strategy,
) -> float:
    """Weight of every site known to have training cases, those that are silent included.

    Args:
        record: The round, with its contributions.
        closed: The rounds before it.
        cases: Training cases of the sites that are there.
        strategy: Gives the weights.
    """
    stated = {site: strategy.weight(cases=number) for site, number in cases.items() if number}
    known = {site.site: site.weight for one in closed for site in contributions(one)} | stated
    known |= {site.site: site.weight for site in contributions(record)}
    return math.fsum(weight or 0.0 for weight in known.values())
