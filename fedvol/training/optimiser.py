"""Optimisers whose state goes to named arrays and back."""

from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedvol.config.learning import AdamW, Optimiser, Sgd
from fedvol.errors import CheckpointError
from fedvol.types import State


class LocalOptimiser:
    """An optimiser over a network's trainable parameters, which keep their names.

    Args:
        optimiser: Over the parameters, in one group.
        parameters: The parameters by name.
        moments: Names under which the optimiser keeps state of each parameter.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        *,
        parameters: dict[str, nn.Parameter],
        moments: tuple[str, ...],
    ) -> None:
        self._optimiser = optimiser
        self._parameters = parameters
        self._moments = moments

    def step(self, *, learning_rate: float) -> None:
        """Follow the gradients, then drop them."""
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Copies of the state, keyed `parameter/moment`; empty before the first step."""
        return {
            f"{name}/{moment}": np.array(held[moment].cpu().numpy(), order="C", copy=True)
            for name, parameter in self._parameters.items()
            if (held := self._optimiser.state.get(parameter))
            for moment in self._moments
        }

    def load_arrays(self, state: State) -> None:
        """Take up a state that `to_arrays` gave; an empty one starts anew.

        Raises:
            CheckpointError: The state is of another optimiser or network.
        """
        self._optimiser.state.clear()
        if not state:
            return
        expected = {f"{name}/{moment}" for name in self._parameters for moment in self._moments}
        if expected != set(state):
            odd = min(expected ^ set(state))
            raise _misfit(odd, "is there on one side only")
        for name, parameter in self._parameters.items():
            self._optimiser.state[parameter] = {
                moment: _restore(state, f"{name}/{moment}", parameter) for moment in self._moments
            }


def build_optimiser(config: Optimiser, *, net: nn.Module) -> LocalOptimiser:
    """An optimiser of the study over a network that is already on its device.

    Weight decay acts on every trainable parameter, biases and norm weights included, as in
    nnU-Net. The fused kernels compute what the others do, with fewer passes over memory.
    """
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    weights = list(parameters.values())
    match config:
        case Sgd():
            optimiser = torch.optim.SGD(
                weights,
                lr=config.learning_rate,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                nesterov=config.momentum > 0,
                fused=True,
            )
            moments = ("momentum_buffer",) if config.momentum > 0 else ()
        case AdamW():
            optimiser = torch.optim.AdamW(
                weights,
                lr=config.learning_rate,
                betas=config.betas,
                weight_decay=config.weight_decay,
                fused=True,
            )
            moments = ("step", "exp_avg", "exp_avg_sq")
        case _:
            assert_never(config)
    return LocalOptimiser(optimiser, parameters=parameters, moments=moments)


def _restore(state: State, key: str, parameter: Tensor) -> Tensor:
    """A tensor with the memory layout the optimiser would have given it."""
    like = parameter.new_zeros(()) if key.endswith("/step") else torch.empty_like(parameter)
    array = state[key]
    if array.shape != tuple(like.shape) or array.dtype != np.float32:
        raise _misfit(key, f"is {array.dtype.name} of shape {array.shape}")
    return like.detach().copy_(torch.tensor(array))


def _misfit(key: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"optimiser state {key}", what, "Use the state of this optimiser, network and plan."
    )
