"""How models are judged."""

from typing import Annotated, Literal

from pydantic import Field

from fedvol.config.base import Section
from fedvol.config.data import Augmentation, Axis, Name
from fedvol.config.metrics import SegmentationMetric


class Evaluation(Section):
    """Metrics, the choice of the best round, and inference."""

    metrics: Annotated[tuple[SegmentationMetric, ...], Field(min_length=1)] = (
        "dice",
        "hd95_mm",
        "assd_mm",
        "nsd",
    )
    """What is reported on test cases."""
    select_by: str = "dice"
    """Validation metric that names the best round: a metric, or metric/class for one class."""
    release: Literal["best", "last"] = Field(default="best", exclude_if=lambda one: one == "best")
    """Which round is released: the best by `select_by`, or the last, which takes no validation
    label to choose; of personal models the same."""
    nsd_tolerance_mm: (
        Annotated[float, Field(gt=0, le=100)] | dict[Name, Annotated[float, Field(gt=0, le=100)]]
    ) = 1.0
    """Surface distance that still counts as agreement, millimetres; for all classes or one each."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Overlap of neighbouring inference windows, as a share of the patch."""
    mirror_axes: tuple[Axis, ...] | None = None
    """Axes over which test predictions are averaged with their mirror images; by default those of
    `augmentation.mirror_axes`, because a network has to have seen mirrored images."""
    validation_mirror: bool = False
    """Whether the validation after each round mirrors too (slower)."""
    bootstrap_replicates: Annotated[int, Field(ge=100, le=100_000)] = 1000
    """Resamples of subjects behind each 95 % interval."""

    def test_mirror_axes(self, augmentation: Augmentation) -> tuple[int, ...]:
        """Axes over which test predictions are averaged: those written, else those of training."""
        return augmentation.mirror_axes if self.mirror_axes is None else self.mirror_axes
