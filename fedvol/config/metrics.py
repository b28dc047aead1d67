"""The metrics of a study: which there are, and what is true of each wherever it is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, final

SegmentationMetric = Literal["dice", "hd95_mm", "assd_mm", "nsd"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is true of a metric.

    Attributes:
        is_higher_better: Whether a larger value is a better one.
        unit: Millimetres, or nothing for a share between 0 and 1.
    """

    is_higher_better: bool
    unit: Literal["", "mm"]

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1; else it is a distance and has no upper bound."""
        return not self.unit


METRICS: Final[Mapping[str, Metric]] = {
    "dice": Metric(is_higher_better=True, unit=""),
    "nsd": Metric(is_higher_better=True, unit=""),
    "hd95_mm": Metric(is_higher_better=False, unit="mm"),
    "assd_mm": Metric(is_higher_better=False, unit="mm"),
}
"""Each metric by its name."""


def metric_name(key: str) -> str:
    """The metric of a key: `dice/liver` is `dice` of one class."""
    return key.partition("/")[0]
