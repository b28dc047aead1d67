"""SCAFFOLD's site half: gradients corrected by c - c_i, and the site's next c_i."""

from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from fedvol.errors import CheckpointError
from fedvol.types import State

_SUM = "sum/"
_STEPS = "steps"


@final
class ControlVariate:
    """Adds c - c_i to every gradient and sums what they were before; a `Correction`.

    The mean of the raw gradients is the paper's option II exactly where steps are plain gradient
    steps of one size, because (x - y_i) / (K eta) = mean gradient + c - c_i; with momentum, Adam,
    clipping or a schedule it still is a gradient, which the difference of weights is not.

    Args:
        net: The network that is trained; its trainable parameters are meant.
        shared: c by parameter name.
        own: c_i by parameter name.

    Reference: Karimireddy et al. (2020), arXiv:1910.06378, algorithm 1 and equation 4.
    """

    def __init__(self, *, net: nn.Module, shared: State, own: State) -> None:
        self._shift: dict[str, Tensor] = {}
        self._sum: dict[str, Tensor] = {}
        self._steps = 0
        for name, parameter in net.named_parameters():
            if parameter.requires_grad:
                shift = np.subtract(shared[name], own[name], dtype=np.float32)
                self._shift[name] = torch.empty_like(parameter).detach().copy_(torch.tensor(shift))
                self._sum[name] = torch.zeros_like(parameter).detach()

    def correct(self, net: nn.Module) -> None:
        """Note each gradient, then add c - c_i to it."""
        self._steps += 1
        for name, parameter in net.named_parameters():
            if not parameter.requires_grad:
                continue
            self._place(name, parameter.device)
            if parameter.grad is None:
                parameter.grad = self._shift[name].clone()
            else:
                self._sum[name].add_(parameter.grad)
                parameter.grad.add_(self._shift[name])

    def mean_gradient(self) -> dict[str, np.ndarray]:
        """Mean of the raw gradients noted, float32 by parameter name: the next c_i.

        Raises:
            ValueError: No step was noted.
        """
        if not self._steps:
            raise ValueError("no gradient was noted")
        return {
            name: np.divide(_array(total), self._steps, dtype=np.float32)
            for name, total in self._sum.items()
        }

    def to_arrays(self) -> State:
        """The sum of gradients, and of how many."""
        gathered = {_SUM + name: _array(total) for name, total in self._sum.items()}
        return {_STEPS: np.array([self._steps], dtype=np.int64), **gathered}

    def load_arrays(self, state: State) -> None:
        """Take up a sum.

        Raises:
            CheckpointError: It is of another network or strategy.
        """
        if set(state) != {_STEPS, *(_SUM + name for name in self._sum)}:
            raise CheckpointError(
                "local checkpoint",
                "its sum of gradients is not of this network and strategy",
                "Remove it, or use the plan it was made under.",
            )
        self._steps = int(state[_STEPS][0])
        for name, total in self._sum.items():
            total.copy_(torch.tensor(state[_SUM + name]))

    def _place(self, name: str, device: torch.device) -> None:
        if self._sum[name].device != device:
            self._shift[name] = self._shift[name].to(device)
            self._sum[name] = self._sum[name].to(device)


def _array(tensor: Tensor) -> np.ndarray:
    return np.array(tensor.cpu().numpy(), order="C", copy=True)
