"""Judging a predictor on a site's cases, one at a time."""

from collections.abc import Callable, Sequence

from fedvol.config.evaluation import Evaluation
from fedvol.config.metrics import SegmentationMetric
from fedvol.data.case_store import StoredCase
from fedvol.errors import TimeLimitError
from fedvol.types import SubjectId
from fedvol.validation.cases import CaseMetrics
from fedvol.validation.inference import Predictor
from fedvol.validation.metrics import measure_case
from fedvol.validation.segmentation import segment


def evaluate_cases(
    predictor: Predictor,
    cases: Sequence[tuple[StoredCase, SubjectId]],
    *,
    classes: Sequence[str],
    evaluation: Evaluation,
    metrics: Sequence[SegmentationMetric],
    on_case: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[CaseMetrics, ...]:
    """Segment and measure each case on the grid its site annotated.

    Args:
        predictor: A network or an ensemble, with its windows.
        cases: Labelled cases with their patients.
        classes: Names of the class indices 1.. in order.
        evaluation: NSD's tolerances.
        metrics: What is measured: `evaluation.metrics`, or `selection_metrics` between rounds.
        on_case: Called after each case with cases done and their total.
        should_stop: Asked before each case; if true, no further case is judged.

    Raises:
        CaseStoreError: A case that is read for the first time is damaged.
        TimeLimitError: `should_stop` said so; nothing is kept.
        ValueError: A case has no label, or a class has no tolerance.
    """
    tolerance_mm = _tolerances(evaluation, classes=classes)
    rows: list[CaseMetrics] = []
    for case, subject in cases:
        if should_stop():
            raise TimeLimitError(
                "evaluation",
                f"the limit passed after {len(rows)} of {len(cases)} cases",
                "Give rounds more time, or let the site evaluate fewer cases.",
            )
        truth = case.reference_label()
        if truth is None:
            raise ValueError(f"case {case.case} has no label to be judged by")
        prediction = segment(predictor, case=case)
        row = measure_case(
            prediction,
            truth=truth,
            spacing_mm=case.reference_spacing_mm,
            classes=classes,
            metrics=metrics,
            tolerance_mm=tolerance_mm,
            case=case.case,
            subject=subject,
        )
        rows.append(row)
        if on_case is not None:
            on_case(len(rows), len(cases))
    return tuple(rows)


def _tolerances(evaluation: Evaluation, *, classes: Sequence[str]) -> dict[str, float]:
    given = evaluation.nsd_tolerance_mm
    if isinstance(given, dict):
        return dict(given)
    return dict.fromkeys(classes, given)
