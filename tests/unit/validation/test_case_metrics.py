"""Names of metrics, and which cases a report shows."""

from fedvol.config.evaluation import Evaluation
from fedvol.plan import metric_keys, selection_metrics
from fedvol.types import CaseId, SubjectId
from fedvol.validation import CaseMetrics, best_median_worst


def rows(key: str, *values: float | None) -> list[CaseMetrics]:
    return [
        CaseMetrics(
            case=CaseId(f"c{index}"),
            subject=SubjectId(f"s{index}"),
            values={key: value},
            penalised=frozenset(),
        )
        for index, value in enumerate(values)
    ]


def test_keys_are_mean_then_classes() -> None:
    assert metric_keys(("dice", "nsd"), ("a", "b")) == (
        "dice",
        "dice/a",
        "dice/b",
        "nsd",
        "nsd/a",
        "nsd/b",
    )


def test_selection_measures_dice_and_what_selects() -> None:
    assert selection_metrics(Evaluation()) == ("dice",)
    assert selection_metrics(Evaluation(select_by="dice/liver")) == ("dice",)
    assert selection_metrics(Evaluation(select_by="nsd/liver")) == ("dice", "nsd")
    few = Evaluation(metrics=("dice",), select_by="hd95_mm")
    assert selection_metrics(few) == ("dice", "hd95_mm")


def test_best_median_worst_of_an_overlap() -> None:
    found = best_median_worst(rows("dice/a", 0.5, None, 0.9, 0.1), key="dice/a")
    assert {name: row.case for name, row in found.items()} == {
        "best": "c2",
        "median": "c0",
        "worst": "c3",
    }


def test_a_small_distance_is_best() -> None:
    found = best_median_worst(rows("hd95_mm", 5.0, 1.0, 9.0), key="hd95_mm")
    assert [found[name].case for name in ("best", "median", "worst")] == ["c1", "c0", "c2"]


def test_equal_cases_go_by_name_and_undefined_ones_are_left_out() -> None:
    assert best_median_worst(rows("dice", 1.0, 1.0), key="dice")["best"].case == "c0"
    assert best_median_worst(rows("dice", None), key="dice") == {}
