"""The metrics of a study: which there are, and what is true of each wherever it is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, final

SegmentationMetric = Literal["dice", "hd95_mm", "assd_mm", "nsd"]

PRETEXT_LOSS: Final = "pretext_loss"
"""Loss of a pretext task on validation cases, by which a pretrain stage chooses its round."""
PRETEXT_BODY_LOSS: Final = "pretext_body_loss"
"""The same on voxels of the body alone, where a task restores intensities: air is easy."""
PRETEXT_TRIVIAL_LOSS: Final = "pretext_trivial_loss"
"""Loss of the best answer that does not look at the input, on the same patches."""
FEATURE_VARIANCE: Final = "feature_variance"
"""How far the encoder's features of different patches lie apart; 0 where it has collapsed."""

PROBE_DICE: Final = "probe_dice"
"""Dice of new heads trained on what a pretrain stage has learned so far, its features frozen."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is true of a metric.

    Attributes:
        is_higher_better: Whether a larger value is a better one.
        unit: Millimetres, or nothing for a number without one.
        is_share: Whether it lies between 0 and 1; else it has no upper bound.
    """

    is_higher_better: bool
    unit: Literal["", "mm"]
    is_share: bool


METRICS: Final[Mapping[str, Metric]] = {
    "dice": Metric(is_higher_better=True, unit="", is_share=True),
    "nsd": Metric(is_higher_better=True, unit="", is_share=True),
    "hd95_mm": Metric(is_higher_better=False, unit="mm", is_share=False),
    "assd_mm": Metric(is_higher_better=False, unit="mm", is_share=False),
    PRETEXT_LOSS: Metric(is_higher_better=False, unit="", is_share=False),
    PRETEXT_BODY_LOSS: Metric(is_higher_better=False, unit="", is_share=False),
    PRETEXT_TRIVIAL_LOSS: Metric(is_higher_better=False, unit="", is_share=False),
    FEATURE_VARIANCE: Metric(is_higher_better=True, unit="", is_share=True),
    PROBE_DICE: Metric(is_higher_better=True, unit="", is_share=True),
}
"""Each metric by its name."""


def metric_name(key: str) -> str:
    """The metric of a key: `dice/liver` is `dice` of one class."""
    return key.partition("/")[0]
