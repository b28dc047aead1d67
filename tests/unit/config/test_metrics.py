"""What is true of each metric stands in one place, and for every metric."""

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from fedvol.config.metrics import METRICS, SegmentationMetric
from fedvol.federation import is_better
from fedvol.report.figures import metric_info
from fedvol.types import CaseId, SubjectId
from fedvol.validation.metrics import measure_case

FEDVOL = Path(__file__).parents[3] / "fedvol"
NAMES = get_args(SegmentationMetric)


def test_every_metric_of_a_study_is_described() -> None:
    pretraining = {name for name in METRICS if name.startswith("pretext_")}
    assert set(METRICS) == {*NAMES, *pretraining, "feature_variance", "probe_dice"}
    assert all(metric_info(name).better != "unknown" for name in METRICS)


@pytest.mark.parametrize("name", NAMES)
def test_all_agree_on_the_direction(name: SegmentationMetric) -> None:
    truth = np.zeros((4, 4, 4), np.uint8)
    truth[1:3, 1:3, 1:3] = 1
    perfect, missed = (
        measure_case(
            prediction,
            truth=truth,
            spacing_mm=(1.0, 1.0, 1.0),
            classes=("organ",),
            metrics=(name,),
            tolerance_mm={"organ": 1.0},
            case=CaseId("a"),
            subject=SubjectId("A"),
        ).values[name]
        for prediction in (truth, np.zeros_like(truth))
    )
    assert is_better(perfect, missed, select_by=f"{name}/organ")
    assert not is_better(missed, perfect, select_by=name)
    assert perfect is not None
    assert missed is not None
    assert (metric_info(name).better == "higher") == (perfect > missed)
    assert METRICS[name].is_share == (perfect == 1.0)


def test_no_other_file_groups_metrics_by_their_names() -> None:
    quoted = re.compile(r'"(dice|nsd|hd95_mm|assd_mm)"')
    several = {
        str(path.relative_to(FEDVOL))
        for path in FEDVOL.rglob("*.py")
        if len(set(quoted.findall(path.read_text()))) > 1
    }
    # what a study lists by default, how each is computed, how each is called in a report
    assert several == {
        "config/metrics.py",
        "config/evaluation.py",
        "validation/metrics.py",
        "report/figures.py",
    }
