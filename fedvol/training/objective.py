"""The seam between the loop and whatever is learned."""

from typing import Protocol

from jaxtyping import Float
from torch import Tensor, nn

from fedvol.data.batch import Batch_contra


class Objective(Protocol[Batch_contra]):
    """What a step makes smaller; every task and every pretext task is one."""

    def loss(self, net: nn.Module, batch: Batch_contra) -> Float[Tensor, ""]:
        """Apply the network to a batch and return the loss, a float32 scalar.

        Called in training mode, under autocast where the study asks for it.
        """
        ...
