"""FedProx: a pull towards the weights the round began with."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedvol.data.batch import Batch
from fedvol.training.objective import Objective


def proximal(objective: Objective, *, mu: float, net: nn.Module) -> Objective:
    """Add the proximal term to an objective; with `mu` 0 the objective itself comes back.

    Args:
        objective: The local loss.
        mu: Strength of the pull.
        net: The network while it holds the round's global weights; they are copied here.

    Reference: Li et al. (2020), arXiv:1812.06127, algorithm 2.
    """
    return objective if mu == 0 else ProximalObjective(objective, mu=mu, net=net)


class ProximalObjective:
    """Local loss + (mu/2) ||w - w_t||^2 over the trainable parameters."""

    def __init__(self, objective: Objective, *, mu: float, net: nn.Module) -> None:
        self._objective = objective
        self._mu = mu
        self._global = {
            name: parameter.detach().clone()
            for name, parameter in net.named_parameters()
            if parameter.requires_grad
        }

    def loss(self, net: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """The objective's loss plus the term."""
        distance = torch.stack(
            [
                (parameter - self._global_of(name, parameter)).square().sum()
                for name, parameter in net.named_parameters()
                if parameter.requires_grad
            ]
        ).sum()
        return self._objective.loss(net, batch) + 0.5 * self._mu * distance

    def _global_of(self, name: str, parameter: Tensor) -> Tensor:
        held = self._global[name]
        if held.device != parameter.device:
            held = self._global[name] = held.to(parameter.device)
        return held
