"""Optimisers, their state as arrays, and the learning rate."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedvol.config.learning import AdamW, Optimiser, Sgd
from fedvol.errors import CheckpointError
from fedvol.training import LocalOptimiser, build_optimiser, poly_learning_rate

CONFIGS: tuple[Optimiser, ...] = (
    Sgd(kind="sgd", learning_rate=0.1),
    Sgd(kind="sgd", learning_rate=0.1, momentum=0.0),
    AdamW(kind="adamw", learning_rate=0.01, weight_decay=0.1),
)


def network() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Conv3d(2, 3, 3), nn.GroupNorm(1, 3))
    nn.init.normal_(net[0].weight, generator=generator)
    nn.init.zeros_(net[0].bias)
    return net.to(memory_format=torch.channels_last_3d)


def step(net: nn.Module, optimiser: LocalOptimiser, *, index: int) -> None:
    generator = torch.Generator().manual_seed(index)
    net(torch.randn(1, 2, 4, 4, 4, generator=generator)).tanh().sum().backward()
    optimiser.step(learning_rate=0.1 / (1 + index))


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_state_there_and_back_goes_on_bit_for_bit(config: Optimiser) -> None:
    whole = network()
    optimiser = build_optimiser(config, net=whole)
    for index in range(3):
        step(whole, optimiser, index=index)
    state = optimiser.to_arrays()
    other = network()
    other.load_state_dict(whole.state_dict())
    second = build_optimiser(config, net=other)
    second.load_arrays(state)
    for index in range(3, 6):
        step(whole, optimiser, index=index)
        step(other, second, index=index)
    for mine, reference in zip(other.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, reference)
    ours, theirs = second.to_arrays(), optimiser.to_arrays()
    assert ours.keys() == theirs.keys()
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_fused_optimiser_is_the_plain_one(config: Optimiser) -> None:
    ours, theirs = network(), network()
    optimiser = build_optimiser(config, net=ours)
    plain: torch.optim.Optimizer = (
        torch.optim.SGD(
            theirs.parameters(),
            momentum=config.momentum,
            nesterov=config.momentum > 0,
            weight_decay=config.weight_decay,
        )
        if isinstance(config, Sgd)
        else torch.optim.AdamW(
            theirs.parameters(), betas=config.betas, weight_decay=config.weight_decay
        )
    )
    for index in range(4):
        step(ours, optimiser, index=index)
        plain.zero_grad()
        generator = torch.Generator().manual_seed(index)
        theirs(torch.randn(1, 2, 4, 4, 4, generator=generator)).tanh().sum().backward()
        plain.param_groups[0]["lr"] = 0.1 / (1 + index)
        plain.step()
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)


def test_state_is_empty_before_the_first_step_and_a_copy_after() -> None:
    net = network()
    optimiser = build_optimiser(CONFIGS[0], net=net)
    assert optimiser.to_arrays() == {}
    step(net, optimiser, index=0)
    held = optimiser.to_arrays()
    before = {key: array.copy() for key, array in held.items()}
    step(net, optimiser, index=1)
    assert all(np.array_equal(held[key], before[key]) for key in held)


def test_frozen_parameters_have_no_state() -> None:
    net = network()
    net[0].bias.requires_grad_(False)
    optimiser = build_optimiser(CONFIGS[2], net=net)
    step(net, optimiser, index=0)
    assert {key.partition("/")[0] for key in optimiser.to_arrays()} == {
        "0.weight",
        "1.weight",
        "1.bias",
    }


def test_state_that_does_not_fit_is_refused() -> None:
    net = network()
    adamw = build_optimiser(CONFIGS[2], net=net)
    step(net, adamw, index=0)
    state = adamw.to_arrays()
    with pytest.raises(CheckpointError):
        build_optimiser(CONFIGS[0], net=network()).load_arrays(state)
    with pytest.raises(CheckpointError, match="exp_avg"):
        adamw.load_arrays({k: v for k, v in state.items() if k != "0.bias/exp_avg"})
    with pytest.raises(CheckpointError, match=r"0\.bias/exp_avg"):
        adamw.load_arrays({**state, "0.bias/exp_avg": np.zeros(4, dtype=np.float32)})
    with pytest.raises(CheckpointError, match=r"0\.bias/step"):
        adamw.load_arrays({**state, "0.bias/step": np.zeros((), dtype=np.float64)})


@settings(max_examples=50, deadline=None)
@given(
    total=st.integers(1, 10_000),
    share=st.floats(0, 1, exclude_max=True),
    power=st.floats(0, 5),
)
def test_learning_rate_falls_from_its_initial_value(total: int, share: float, power: float) -> None:
    step = int(share * total)

    def rate(step: int) -> float:
        return poly_learning_rate(0.3, step=step, total_steps=total, power=power)

    assert rate(0) == 0.3
    assert 0 < rate(step) <= 0.3
    assert rate(step + 1) <= rate(step)
    if power == 0:
        assert rate(step) == 0.3


def test_learning_rate_by_hand() -> None:
    assert poly_learning_rate(0.01, step=50, total_steps=100, power=0.9) == pytest.approx(
        0.01 * 0.5**0.9
    )
