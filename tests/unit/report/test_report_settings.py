"""A strategy in words names every value that a study may set."""

import pytest

from fedvol.config import strategy
from fedvol.report.settings import plan_settings, strategy_words


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (strategy.FedAvg(kind="fedavg"), "FedAvg (weights by cases)"),
        (
            strategy.FedBN(kind="fedbn", weighting="equal"),
            "FedBN (norm layers stay at their site, every site weighs the same)",
        ),
        (strategy.FedProx(kind="fedprox", mu=0.3), "FedProx (mu 0.3, weights by cases)"),
        (
            strategy.AdaptiveFedProx(kind="adaptive_fedprox"),
            (
                "adaptive FedProx (mu from 0 in steps of 0.1, down after 5 falling rounds, "
                "weights by cases)"
            ),
        ),
        (
            strategy.FedAvgM(kind="fedavgm"),
            "FedAvgM (momentum 0.9, server learning rate 1, weights by cases)",
        ),
        (
            strategy.FedYogi(kind="fedyogi", weighting="equal"),
            (
                "FedYogi (betas 0.9 and 0.99, tau 0.001, server learning rate 0.01, "
                "every site weighs the same)"
            ),
        ),
        (
            strategy.Scaffold(kind="scaffold"),
            "SCAFFOLD (control variates of every trained tensor, weights by cases)",
        ),
    ],
)
def test_strategies(settings, words: str) -> None:
    assert strategy_words(settings) == words


def test_float32_is_said_to_be_tf32_on_a_gpu(plan) -> None:
    stage = dict(plan_settings(plan))["Stage 1"]
    assert stage.endswith(", float32 (on a GPU TF32 in convolutions)")
