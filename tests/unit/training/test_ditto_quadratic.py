"""Ditto on a quadratic: the fixed point is known in closed form."""

import numpy as np
import pytest
import torch
from torch import nn

from fedvol.training import Pull

H = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
MINIMUM = torch.tensor([3.0, -1.0])
GLOBAL = torch.tensor([-1.0, 2.0])


class Vector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(GLOBAL.clone())


def descend(strength: float, *, steps: int = 4000) -> np.ndarray:
    """Gradient steps on the site's loss, from the global weights, pulled back to them."""
    net = Vector()
    pull = Pull(strength=strength, net=net)
    rate = 1 / (3 + strength)
    for _ in range(steps):
        net.v.grad = H @ (net.v.detach() - MINIMUM)
        pull.correct(net)
        with torch.no_grad():
            net.v -= rate * net.v.grad
    return net.v.detach().numpy()


@pytest.mark.parametrize("strength", [0.0, 0.1, 1.0, 30.0])
def test_the_fixed_point_is_the_closed_form(strength: float) -> None:
    h, a, w = (x.numpy().astype(np.float64) for x in (H, MINIMUM, GLOBAL))
    expected = np.linalg.solve(h + strength * np.eye(2), h @ a + strength * w)
    np.testing.assert_allclose(descend(strength), expected, atol=1e-4)


def test_no_pull_ends_at_the_sites_minimum_and_a_huge_one_at_the_global_weights() -> None:
    np.testing.assert_allclose(descend(0.0), MINIMUM.numpy(), atol=1e-4)
    np.testing.assert_allclose(descend(1e5), GLOBAL.numpy(), atol=1e-3)
