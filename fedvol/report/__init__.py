"""What a run leaves for people: `result.json`, one page of HTML, a model card."""

from fedvol.report.figures import metric_info, metric_label, quantity
from fedvol.report.html import write_report
from fedvol.report.model_card import write_model_card
from fedvol.report.picture_file import load_pictures, load_pretext_pictures, save_pictures
from fedvol.report.pictures import CasePicture
from fedvol.report.pretext_pictures import PretextPlanes
from fedvol.report.result import (
    Difference,
    DigestOf,
    EvaluationResult,
    Metrics,
    ModelResult,
    PrivacyResult,
    Protection,
    Released,
    Result,
    RoundResult,
    SiteResult,
    SiteRound,
    StageResult,
    StatResult,
)
from fedvol.report.result_file import read_result, write_result

__all__ = [
    "CasePicture",
    "Difference",
    "DigestOf",
    "EvaluationResult",
    "Metrics",
    "ModelResult",
    "PretextPlanes",
    "PrivacyResult",
    "Protection",
    "Released",
    "Result",
    "RoundResult",
    "SiteResult",
    "SiteRound",
    "StageResult",
    "StatResult",
    "load_pictures",
    "load_pretext_pictures",
    "metric_info",
    "metric_label",
    "quantity",
    "read_result",
    "save_pictures",
    "write_model_card",
    "write_report",
    "write_result",
]
