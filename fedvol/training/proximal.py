"""A pull towards fixed weights: FedProx's proximal term, and Ditto's."""

from typing import final

from torch import nn

from fedvol.errors import CheckpointError
from fedvol.types import State


@final
class Pull:
    """Gradient of (strength/2) ||w - w*||^2 over the trainable parameters; a `Correction`.

    Args:
        strength: mu of FedProx, lambda of Ditto; with 0 no gradient changes.
        net: The network while it holds w*; the weights are copied here.

    References: Li et al. (2020), arXiv:1812.06127, algorithm 2; Li et al. (2021),
    arXiv:2012.04221, algorithm 1.
    """

    def __init__(self, *, strength: float, net: nn.Module) -> None:
        self._strength = strength
        self._anchor = {
            name: parameter.detach().clone()
            for name, parameter in net.named_parameters()
            if parameter.requires_grad
        }

    def correct(self, net: nn.Module) -> None:
        """Add strength x (w - w*) to each gradient."""
        if self._strength == 0:
            return
        for name, parameter in net.named_parameters():
            if not parameter.requires_grad:
                continue
            anchor = self._anchor[name]
            if anchor.device != parameter.device:
                anchor = self._anchor[name] = anchor.to(parameter.device)
            distance = parameter.detach() - anchor
            if parameter.grad is None:
                parameter.grad = self._strength * distance
            else:
                parameter.grad.add_(distance, alpha=self._strength)

    def to_arrays(self) -> State:
        """Nothing gathers."""
        return {}

    def load_arrays(self, state: State) -> None:
        """Nothing gathers."""
        if state:
            raise CheckpointError(
                "local checkpoint",
                "it holds what another strategy gathered",
                "Remove it, or use the plan it was made under.",
            )
