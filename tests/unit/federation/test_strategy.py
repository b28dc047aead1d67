import numpy as np
import pytest

from fedvol.config.strategy import FedAvg, FedBN, FedProx
from fedvol.federation import TrainReport, build_strategy

REPORT = TrainReport(cases=12, steps=30, train_seconds=1.0, loss=0.5)


@pytest.mark.parametrize(
    ("weighting", "weight"), [("cases", 12.0), ("steps", 30.0), ("equal", 1.0)]
)
@pytest.mark.parametrize("kind", [FedAvg, FedProx, FedBN])
def test_weight_is_what_the_study_names(kind, weighting, weight) -> None:
    settings = kind(kind=kind.__name__.lower(), weighting=weighting)
    assert build_strategy(settings).weight(REPORT) == weight
    assert build_strategy(settings).needs == "sum"


def test_step_adds_the_mean_update_and_keeps_the_type() -> None:
    strategy = build_strategy(FedAvg(kind="fedavg"))
    present = np.array([[1.0, 2.0]], dtype=np.float32)
    following = strategy.step(present, mean_update=np.array([[0.5, -2.0]]))
    assert following.dtype == np.float32
    np.testing.assert_array_equal(following, [[1.5, 0.0]])
    np.testing.assert_array_equal(present, [[1.0, 2.0]])


def test_step_rounds_once_from_float64() -> None:
    strategy = build_strategy(FedAvg(kind="fedavg"))
    present = np.array([1.0], dtype=np.float32)
    # Rounded to float32 first, the update would vanish next to a half unit in the last place.
    update = np.array([float(np.spacing(np.float32(1.0))) / 2 * (1 + 1e-8)])
    assert strategy.step(present, mean_update=update)[0] > 1.0
