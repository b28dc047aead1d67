"""SCAFFOLD's control variate: what it adds, what it gathers, and the paper's option II."""

import numpy as np
import pytest
import torch
from torch import nn

from fedvol.config.learning import AdamW, Sgd, Training
from fedvol.data.batch import Batch
from fedvol.errors import CheckpointError
from fedvol.models import to_arrays
from fedvol.training import ControlVariate, Window, threads, train
from fedvol.types import State

PLAIN = Training(
    optimiser=Sgd(kind="sgd", learning_rate=0.05, momentum=0.0, weight_decay=0.0),
    poly_power=0.0,
    clip_grad_norm=0.0,
    num_threads=1,
)


class Noise:
    def batch(self, step: int) -> Batch:
        image = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(step))
        return Batch(image=image, label=(image[:, 0] > 0).long())


class SquaredOutput:
    def loss(self, net: nn.Module, batch: Batch) -> torch.Tensor:
        return (net(batch.image) - batch.label[:, None]).square().mean()


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.random.manual_seed(3)
        return nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv3d(3, 1, 1))


def noise_like(net: nn.Module, *, seed: int, size: float) -> State:
    generator = np.random.default_rng(seed)
    return {
        name: (size * generator.standard_normal(tuple(p.shape))).astype(np.float32)
        for name, p in net.named_parameters()
    }


def run(config: Training, *, steps: int = 6) -> tuple[State, State, State, State, State]:
    """x, y, c, c_i and the next c_i of one round."""
    net = network()
    shared = noise_like(net, seed=1, size=0.1)
    own = noise_like(net, seed=2, size=0.1)
    before = to_arrays(net)
    control = ControlVariate(net=net, shared=shared, own=own)
    with threads(1):
        train(
            net,
            objective=SquaredOutput(),
            batches=Noise(),
            config=config,
            window=Window(first_step=0, num_steps=steps, total_steps=steps),
            device=torch.device("cpu"),
            correction=control,
        )
    return before, to_arrays(net), shared, own, control.mean_gradient()


def test_for_plain_steps_the_mean_gradient_is_option_ii() -> None:
    """c_i - c + (x - y_i) / (K eta), equation 4 of the paper."""
    x, y, c, own, following = run(PLAIN)
    for name, value in following.items():
        option = own[name] - c[name] + (x[name] - y[name]) / (6 * 0.05)
        np.testing.assert_allclose(value, option, rtol=0, atol=2e-6)


def test_for_adam_the_difference_of_weights_would_be_no_gradient() -> None:
    config = PLAIN.model_copy(update={"optimiser": AdamW(kind="adamw", learning_rate=0.05)})
    x, y, c, own, following = run(config)
    apart = [
        np.abs(own[name] - c[name] + (x[name] - y[name]) / (6 * 0.05) - value).max()
        for name, value in following.items()
    ]
    assert max(apart) > 0.1


def test_each_gradient_gets_c_minus_the_sites_own() -> None:
    net = network()
    shared, own = noise_like(net, seed=1, size=1.0), noise_like(net, seed=2, size=1.0)
    control = ControlVariate(net=net, shared=shared, own=own)
    SquaredOutput().loss(net, Noise().batch(0)).backward()
    raw = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    control.correct(net)
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        shift = torch.tensor(shared[name] - own[name])
        torch.testing.assert_close(parameter.grad, raw[name] + shift)
        np.testing.assert_array_equal(control.mean_gradient()[name], raw[name].numpy())


def test_equal_variates_are_plain_training_bit_for_bit() -> None:
    def weights(*, corrected: bool) -> State:
        net = network()
        c = noise_like(net, seed=1, size=1.0)
        with threads(1):
            train(
                net,
                objective=SquaredOutput(),
                batches=Noise(),
                config=PLAIN,
                window=Window(first_step=0, num_steps=4, total_steps=4),
                device=torch.device("cpu"),
                correction=ControlVariate(net=net, shared=c, own=c) if corrected else None,
            )
        return to_arrays(net)

    plain, same = weights(corrected=False), weights(corrected=True)
    assert all(plain[name].tobytes() == same[name].tobytes() for name in plain)


def test_a_sum_of_another_network_or_strategy_is_refused() -> None:
    net = network()
    zeros = noise_like(net, seed=1, size=0.0)
    control = ControlVariate(net=net, shared=zeros, own=zeros)
    with pytest.raises(ValueError, match="no gradient"):
        control.mean_gradient()
    for state in ({}, {"steps": np.array([1])}, {**control.to_arrays(), "sum/odd": np.zeros(1)}):
        with pytest.raises(CheckpointError, match="not of this network"):
            control.load_arrays(state)
