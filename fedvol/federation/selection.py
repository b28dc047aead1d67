"""Which round's global state is released: the best by one named validation metric."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fedvol.config.metrics import METRICS, metric_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One closed round.

    Attributes:
        round: 1 for the first.
        value: Its validation metric over all sites; None where it is undefined or withheld.
    """

    round: int
    value: float | None


def best_round(candidates: Iterable[Candidate], *, select_by: str) -> int | None:
    """The round to release; of equals the earliest, None where no round has a value.

    Args:
        candidates: Closed rounds, in any order.
        select_by: Metric, with `/class` for one class; its metric says which values are good.
    """
    best: Candidate | None = None
    for candidate in sorted(candidates, key=lambda one: one.round):
        if is_better(candidate.value, best.value if best else None, select_by=select_by):
            best = candidate
    return best.round if best else None


def is_better(value: float | None, than: float | None, *, select_by: str) -> bool:
    """Whether a value beats another; any value beats none, and equality beats nothing."""
    if value is None or math.isnan(value):
        return False
    if than is None:
        return True
    return value > than if METRICS[metric_name(select_by)].is_higher_better else value < than
