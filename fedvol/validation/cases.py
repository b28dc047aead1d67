"""`CaseMetrics`: what was measured on one case; never leaves a site as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fedvol.types import CaseId, SubjectId

_DISTANCES = frozenset({"hd95_mm", "assd_mm"})

Rank = Literal["best", "median", "worst"]
BestMedianWorst = dict[Rank, "CaseMetrics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseMetrics:
    """Metrics of one case.

    Attributes:
        case: The case judged.
        subject: The patient it belongs to.
        values: One per key of `metric_keys`; None where the metric is undefined.
        penalised: Keys whose value stands for a mask that is empty on one side only.
    """

    case: CaseId
    subject: SubjectId
    values: Mapping[str, float | None]
    penalised: frozenset[str]


def best_median_worst(rows: Sequence[CaseMetrics], *, key: str) -> BestMedianWorst:
    """Cases worth a look, by one metric; of equal cases the first by name.

    A distance is best when small. Cases where the metric is undefined are left out; without any
    other case the answer is empty.
    """
    sign = 1.0 if key.split("/", 1)[0] in _DISTANCES else -1.0
    ranked = sorted(
        ((sign * value, row.case, row) for row in rows if (value := row.values[key]) is not None),
        key=lambda entry: entry[:2],
    )
    if not ranked:
        return {}
    ordered = [row for _, _, row in ranked]
    return {"best": ordered[0], "median": ordered[len(ordered) // 2], "worst": ordered[-1]}
