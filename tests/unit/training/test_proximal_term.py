"""The pull towards fixed weights against its formula."""

import pytest
import torch
from torch import nn

from fedvol.errors import CheckpointError
from fedvol.training import Pull

IMAGE = torch.ones(1, 1, 2, 2, 2)


def moved_network(strength: float) -> tuple[nn.Module, dict[str, torch.Tensor], Pull]:
    """A network that moved away from the weights it is pulled to, with no gradient yet."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 3, 1), nn.Conv3d(3, 2, 1))
    net[1].bias.requires_grad_(False)
    pull = Pull(strength=strength, net=net)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return net, before, pull


def gradients(net: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def test_it_adds_the_gradient_of_half_mu_times_the_squared_distance() -> None:
    net, before, pull = moved_network(0.3)
    net(IMAGE).square().sum().backward()
    loss_alone = gradients(net)
    pull.correct(net)
    corrected = gradients(net)
    net.zero_grad()
    distance = sum(
        (parameter - before[name]).square().sum()
        for name, parameter in net.named_parameters()
        if parameter.requires_grad
    )
    (0.5 * 0.3 * distance).backward()
    for name, term in gradients(net).items():
        torch.testing.assert_close(corrected[name], loss_alone[name] + term)
    assert "1.bias" not in corrected


def test_a_parameter_without_gradient_is_pulled_too() -> None:
    net, before, pull = moved_network(0.3)
    pull.correct(net)
    for name, gradient in gradients(net).items():
        torch.testing.assert_close(gradient, 0.3 * (net.get_parameter(name) - before[name]))


def test_no_pull_changes_nothing() -> None:
    net, _, pull = moved_network(0.0)
    pull.correct(net)
    assert not gradients(net)


def test_at_its_weights_the_pull_is_zero() -> None:
    net = nn.Conv3d(1, 2, 1)
    Pull(strength=5.0, net=net).correct(net)
    assert all(not gradient.any() for gradient in gradients(net).values())


def test_it_refuses_what_another_strategy_gathered() -> None:
    _, _, pull = moved_network(0.3)
    pull.load_arrays(pull.to_arrays())
    with pytest.raises(CheckpointError, match="another strategy"):
        pull.load_arrays({"steps": torch.zeros(1).numpy()})
