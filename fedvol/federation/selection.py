"""Which round's global state is released: the best by one named validation metric."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_SMALLER_IS_BETTER = frozenset({"hd95_mm", "assd_mm"})


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
        select_by: Metric, with `/class` for one class; its name says whether small is good.
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
    return value < than if is_smaller_better(select_by) else value > than


def is_smaller_better(metric: str) -> bool:
    """Whether a metric, with `/class` or without, is a distance, of which small is good."""
    return metric.split("/", maxsplit=1)[0] in _SMALLER_IS_BETTER
