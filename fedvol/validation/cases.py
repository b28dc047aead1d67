"""`CaseMetrics`: what was measured on one case; never leaves a site as it is."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedvol.types import CaseId, SubjectId


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
