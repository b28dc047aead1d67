"""Judging a network: sliding-window inference, metrics per case, and sums that may leave a site.

`.cases`, `.metrics`, `.pictures`, `.summary` and `.surface` work on NumPy arrays alone; torch is
in `.inference`, and behind it in `.segmentation` and `.evaluate`.
"""

from fedvol.validation.cases import CaseMetrics
from fedvol.validation.evaluate import evaluate_cases
from fedvol.validation.inference import Predictor, SlidingWindow, ensemble, predict, single
from fedvol.validation.pictures import SlicePanel, slice_panel
from fedvol.validation.segmentation import reference_image, segment
from fedvol.validation.summary import cases_behind, summarise

__all__ = [
    "CaseMetrics",
    "Predictor",
    "SlicePanel",
    "SlidingWindow",
    "cases_behind",
    "ensemble",
    "evaluate_cases",
    "predict",
    "reference_image",
    "segment",
    "single",
    "slice_panel",
    "summarise",
]
