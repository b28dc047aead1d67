"""Names of metrics."""

from fedvol.config.data import DataRequirement
from fedvol.config.evaluation import Evaluation
from fedvol.plan import class_names, metric_keys, num_classes, selection_metrics


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


def test_background_is_a_class_without_a_name() -> None:
    data = DataRequirement.model_validate(
        {"channels": ("CT",), "labels": {"b": 7, "a": 3}, "split": {"kind": "column"}}
    )
    assert class_names(data) == ("a", "b")
    assert num_classes(data) == 3
