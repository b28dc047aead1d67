"""Which test cases a report shows."""

import pytest

from fedvol.config.metrics import SegmentationMetric
from fedvol.simulation.pictures import Row, best_median_worst
from fedvol.types import CaseId, SiteId

ROWS: list[Row] = [
    (value, SiteId(site), CaseId(case))
    for value, site, case in [(0.5, "b", "1"), (0.9, "a", "2"), (0.5, "a", "3"), (0.7, "c", "4")]
]


@pytest.mark.parametrize(
    ("metric", "best", "median", "worst"), [("dice", "2", "4", "3"), ("hd95_mm", "3", "1", "2")]
)
def test_best_is_what_the_metric_calls_better(
    metric: SegmentationMetric, best: str, median: str, worst: str
) -> None:
    chosen = best_median_worst(ROWS, metric=metric)
    assert {label: row[2] for label, row in chosen.items()} == {
        "best": best,
        "median": median,
        "worst": worst,
    }


def test_of_one_case_three_times_the_same_and_of_none_none() -> None:
    assert set(best_median_worst(ROWS[:1], metric="dice").values()) == {ROWS[0]}
    assert not best_median_worst([], metric="dice")
