"""Names of metrics."""

from fedvol.config.evaluation import Evaluation
from fedvol.plan import metric_keys, selection_metrics


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
