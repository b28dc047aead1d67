"""No figure over few subjects leaves: below the site's floor it is withheld and marked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedvol.federation import EvaluationReport, MetricSums


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSubjects:
    """Subjects behind counts of an evaluation that are counts of cases; they stay at the site.

    Attributes:
        undefined: Subjects with a case left out, int64, (metric,).
        penalised: Subjects with a case where one mask alone is empty, int64, (metric,).
    """

    undefined: NDArray[np.int64]
    penalised: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSubjects:
    """Subjects behind the counts of cases in a health report; they stay at the site.

    Attributes:
        training: Behind the training cases.
        validation: Behind the validation cases.
        test: Behind the test cases.
        skipped: Behind the cases left out, by error code.
    """

    training: int
    validation: int
    test: int
    skipped: Mapping[str, int]


def is_small(subjects: int, *, floor: int) -> bool:
    """Whether a group is there and smaller than the floor; of nobody may be told."""
    return 0 < subjects < floor


def suppress(
    sums: MetricSums, report: EvaluationReport, *, behind: JudgedSubjects, floor: int
) -> tuple[MetricSums | None, EvaluationReport]:
    """Withhold every metric that fewer than `floor` subjects are behind, or that singles some out.

    Many cases of one patient are one subject. A metric is withheld too where the subjects of its
    undefined or its penalised cases, or those without a value, are few but not none: they would be
    a figure over a small group themselves.

    Args:
        sums: Sums over a site's cases.
        report: What they mean.
        behind: Subjects behind the counts of cases.
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
    for group in (behind.undefined, behind.penalised, report.subjects - sums.subjects):
        hidden |= (group > 0) & (group < floor)
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
