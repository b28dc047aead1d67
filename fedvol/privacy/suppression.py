"""No figure over few subjects leaves: below the site's floor a metric is withheld and marked."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedvol.federation import EvaluationReport, MetricSums


def suppress(
    sums: MetricSums, report: EvaluationReport, *, floor: int
) -> tuple[MetricSums | None, EvaluationReport]:
    """Withhold every metric that fewer than `floor` subjects are behind, or that singles some out.

    Many cases of one patient are one subject. A metric is withheld too where its undefined or its
    penalised cases, or the subjects without a value, are few but not none: they would be a figure
    over a small group themselves.

    Args:
        sums: Sums over a site's cases.
        report: What they mean.
        floor: Fewest subjects behind a figure that leaves.

    Returns:
        The sums with NaN and 0 in the rows withheld, and the report that names these. With fewer
        than `floor` subjects in all: no sums, no counts, every metric named. A floor of 1 withholds
        nothing: a metric without a case is undefined, not hidden.
    """
    if floor <= 1:
        return sums, report
    if report.subjects < floor:
        return None, report.model_copy(
            update={"suppressed": report.keys, "cases": 0, "subjects": 0}
        )
    hidden = sums.subjects < floor
    for group in (sums.undefined, sums.penalised, report.subjects - sums.subjects):
        hidden |= _is_small(group, floor=floor)
    names = tuple(key for key, is_hidden in zip(sums.keys, hidden, strict=True) if is_hidden)
    kept = replace(
        sums,
        sums=np.where(hidden[:, np.newaxis], np.nan, sums.sums),
        counts=np.where(hidden[:, np.newaxis], 0, sums.counts),
        undefined=np.where(hidden, 0, sums.undefined),
        penalised=np.where(hidden, 0, sums.penalised),
        subjects=np.where(hidden, 0, sums.subjects),
        lone_sites=np.where(hidden, 0, sums.lone_sites),
    )
    return kept, report.model_copy(update={"suppressed": names})


def _is_small(counts: NDArray[np.int64], *, floor: int) -> NDArray[np.bool_]:
    return (counts > 0) & (counts < floor)
