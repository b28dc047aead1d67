"""Names that follow from a study: its classes, and the metrics that are measured on them."""

from collections.abc import Sequence
from typing import get_args

from fedvol.config.data import DataRequirement
from fedvol.config.evaluation import Evaluation
from fedvol.config.metrics import (
    FEATURE_VARIANCE,
    PRETEXT_BODY_LOSS,
    PRETEXT_LOSS,
    PRETEXT_TRIVIAL_LOSS,
    PROBE_DICE,
    SegmentationMetric,
    metric_name,
)
from fedvol.config.strategy import Pretrain


def class_names(requirement: DataRequirement) -> tuple[str, ...]:
    """Names of the classes in order of their index from 1; background, 0, is not among them.

    Index `n` belongs to the label with the n-th smallest value in the label volumes.
    """
    return tuple(sorted(requirement.labels, key=requirement.labels.__getitem__))


def num_classes(requirement: DataRequirement) -> int:
    """Classes a network tells apart, background included."""
    return 1 + len(requirement.labels)


def metric_keys(metrics: Sequence[SegmentationMetric], classes: Sequence[str]) -> tuple[str, ...]:
    """Names of all values of a case: each metric's mean over classes, then each class.

    Args:
        metrics: What is measured.
        classes: Class names without background, in order of their index.
    """
    return tuple(
        key for metric in metrics for key in (metric, *(f"{metric}/{name}" for name in classes))
    )


def selection_metrics(evaluation: Evaluation) -> tuple[SegmentationMetric, ...]:
    """What must be measured to choose the best round: Dice, which is cheap, and `select_by`."""
    chosen = metric_name(evaluation.select_by)
    known = get_args(SegmentationMetric)
    return ("dice", *(name for name in known if name == chosen and name != "dice"))


def pretext_metrics(stage: Pretrain, *, is_probed: bool) -> tuple[str, ...]:
    """What is measured on validation cases after a round of a pretrain stage.

    Args:
        stage: The stage.
        is_probed: Whether new heads are trained after the round (`Pretrain.is_probed`).
    """
    body = (PRETEXT_BODY_LOSS,) if stage.task.restores else ()
    probe = (PROBE_DICE,) if is_probed else ()
    return (PRETEXT_LOSS, *body, PRETEXT_TRIVIAL_LOSS, FEATURE_VARIANCE, *probe)
