"""Supervised tasks; each is an `Objective` for the training loop."""

from fedvol.tasks.build import build_objective
from fedvol.tasks.segmentation import SegmentationObjective

__all__ = ["SegmentationObjective", "build_objective"]
