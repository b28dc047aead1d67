import numpy as np
import pytest

from fedvol.config import strategy as config
from fedvol.federation import Exchange, Mean, build_strategy, next_global
from fedvol.plan import TensorKind, TensorSpec

KINDS = (
    config.FedAvg,
    config.FedProx,
    config.AdaptiveFedProx,
    config.FedAvgM,
    config.FedAdam,
    config.FedYogi,
    config.Scaffold,
    config.FedBN,
)


@pytest.mark.parametrize(("weighting", "weight"), [("cases", 12.0), ("equal", 1.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_weight_is_what_the_study_names(kind, weighting, weight) -> None:
    (name,) = kind.model_fields["kind"].annotation.__args__
    strategy = build_strategy(kind(kind=name, weighting=weighting))
    assert strategy.weight(cases=12) == weight


def test_the_mean_update_is_added() -> None:
    strategy = build_strategy(config.FedAvg(kind="fedavg"))
    stepped = strategy.optimiser.step(
        np.array([[1.0, 2.0]]), mean=Mean(update=np.array([[0.5, -2.0]])), companions={}
    )
    np.testing.assert_array_equal(stepped.tensor, [[1.5, 0.0]])
    assert not stepped.companions


class Held:
    def __init__(self, **tensors) -> None:
        self.tensors = tensors

    def read(self, name):
        return self.tensors[name]


def test_the_sum_is_rounded_once_and_keeps_the_type() -> None:
    spec = TensorSpec(name="w", shape=(1,), dtype="float32", kind=TensorKind.HEAD)
    # Rounded to float32 first, the mean would vanish next to half a unit in the last place.
    half = float(np.spacing(np.float32(1.0))) / 2
    updates = [(1.0, Held(w=np.array([half * (1 + 1e-8)])))]
    (named,) = next_global(
        Held(w=np.array([1.0], dtype=np.float32)),
        updates,
        exchange=Exchange(shared=(spec,), local=()),
        optimiser=build_strategy(config.FedAvg(kind="fedavg")).optimiser,
    )
    assert named[0] == "w"
    assert named[1].dtype == np.float32
    assert named[1][0] > 1.0
