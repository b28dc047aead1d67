"""No figure over few cases leaves: below the site's floor a metric is withheld, and marked so."""

from dataclasses import replace

import numpy as np

from fedvol.federation import EvaluationReport, MetricSums


def suppress(
    sums: MetricSums, report: EvaluationReport, *, floor: int
) -> tuple[MetricSums | None, EvaluationReport]:
    """Withhold every metric that fewer than `floor` cases are behind.

    Args:
        sums: Sums over a site's cases.
        report: What they mean.
        floor: Fewest cases behind a figure that leaves.

    Returns:
        The sums with NaN and 0 in the rows withheld, and the report that names these. With fewer
        than `floor` cases in all: no sums, no counts, every metric named. A floor of 1 withholds
        nothing: a metric without a case is undefined, not hidden.
    """
    if floor <= 1:
        return sums, report
    if report.cases < floor:
        return None, report.model_copy(
            update={"suppressed": report.keys, "cases": 0, "subjects": 0}
        )
    hidden = sums.counts[:, 0] < floor
    names = tuple(key for key, is_hidden in zip(sums.keys, hidden, strict=True) if is_hidden)
    kept = replace(
        sums,
        sums=np.where(hidden[:, np.newaxis], np.nan, sums.sums),
        counts=np.where(hidden[:, np.newaxis], 0, sums.counts),
        undefined=np.where(hidden, 0, sums.undefined),
        penalised=np.where(hidden, 0, sums.penalised),
    )
    return kept, report.model_copy(update={"suppressed": names})
