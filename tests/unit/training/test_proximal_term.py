"""The proximal term against its formula."""

import pytest
import torch
from torch import nn

from fedvol.data.batch import Batch
from fedvol.training import proximal

BATCH = Batch(image=torch.ones(1, 1, 2, 2, 2), label=torch.zeros(1, 2, 2, 2, dtype=torch.int64))


class Zero:
    def loss(self, net: nn.Module, batch: Batch) -> torch.Tensor:
        return net(batch.image).sum() * 0


def moved_network() -> tuple[nn.Module, dict[str, torch.Tensor], object]:
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 3, 1), nn.Conv3d(3, 2, 1))
    net[1].bias.requires_grad_(False)
    objective = proximal(Zero(), mu=0.3, net=net)
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return net, before, objective


def test_gradient_is_mu_times_the_distance() -> None:
    net, before, objective = moved_network()
    objective.loss(net, BATCH).backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, 0.3 * (parameter - before[name]))
        else:
            assert parameter.grad is None


def test_value_is_half_mu_times_the_squared_norm_of_what_is_trained() -> None:
    net, before, objective = moved_network()
    squares = [
        (parameter - before[name]).square().sum()
        for name, parameter in net.named_parameters()
        if parameter.requires_grad
    ]
    expected = 0.15 * sum(squares)
    torch.testing.assert_close(objective.loss(net, BATCH), expected)


def test_no_pull_is_no_wrapper() -> None:
    inner = Zero()
    assert proximal(inner, mu=0, net=nn.Conv3d(1, 1, 1)) is inner
    assert proximal(inner, mu=1e-9, net=nn.Conv3d(1, 1, 1)) is not inner


def test_at_the_global_weights_the_term_is_zero() -> None:
    net = nn.Conv3d(1, 2, 1)
    loss = proximal(Zero(), mu=5.0, net=net).loss(net, BATCH)
    assert loss.item() == pytest.approx(0, abs=0)
