"""No figure over few subjects leaves: below the site's floor it is withheld and marked."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedvol.federation import EvaluationReport, MetricSums
from fedvol.privacy.judged_cases import JudgedCases, hidden_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSubjects:
    """Subjects behind the counts of cases in a health report; they stay at the site.

    Attributes:
        training: Behind the training cases.
        pretraining: Behind the cases it pretrains on, labelled or not.
        validation: Behind the validation cases.
        test: Behind the test cases.
        skipped: Behind the cases left out, by error code.
    """

    training: int
    pretraining: int
    validation: int
    test: int
    skipped: Mapping[str, int]


def suppress(
    sums: MetricSums, report: EvaluationReport, *, behind: JudgedCases, floor: int
) -> tuple[MetricSums | None, EvaluationReport]:
    """Withhold every metric that would tell of fewer than `floor` subjects.

    Many cases of one patient are one subject, and how many cases patients have is not told: the
    replicates' means stay, but each counts as many cases as there are, not as its draw weighs.

    Args:
        sums: Sums over a site's cases.
        report: What they mean.
        behind: The cases and whose they are.
        floor: Fewest subjects behind a figure that leaves.

    Returns:
        The sums with NaN and 0 in the rows withheld, and the report that names these. With fewer
        than `floor` subjects in all: no sums, no counts, every metric named. A floor of 1 withholds
        and changes nothing: a metric without a case is undefined, not hidden.
    """
    if floor <= 1:
        return sums, report
    if behind.num_subjects < floor:
        return None, report.model_copy(update={"suppressed": report.keys, "cases": 0})
    names = hidden_metrics(behind, keys=sums.keys, floor=floor)
    hidden = np.array([key in names for key in sums.keys], dtype=np.bool_)
    steady = _steady(sums)
    kept = replace(
        steady,
        sums=np.where(hidden[:, np.newaxis], np.nan, steady.sums),
        counts=np.where(hidden[:, np.newaxis], 0.0, steady.counts),
        undefined=np.where(hidden, 0, sums.undefined),
        penalised=np.where(hidden, 0, sums.penalised),
        lone_sites=np.where(hidden, 0, sums.lone_sites),
    )
    suppressed = tuple(key for key in sums.keys if key in names)
    return kept, report.model_copy(update={"suppressed": suppressed})


def _steady(sums: MetricSums) -> MetricSums:
    """The same means of all replicates, over one number of cases."""
    num, drawn = sums.counts[:, :1], sums.counts[:, 1:]
    means = np.divide(sums.sums[:, 1:], drawn, out=np.zeros(drawn.shape), where=drawn > 0)
    return replace(
        sums,
        sums=np.concatenate([sums.sums[:, :1], means * num], axis=1),
        counts=np.concatenate([num, np.where(drawn > 0, num, 0.0)], axis=1),
    )
