"""The seam between the loop and whatever changes gradients before they are followed."""

from typing import Protocol

from torch import nn

from fedvol.types import State


class Correction(Protocol):
    """Changes a step's gradients, after they are computed and before they are clipped.

    A correction is not part of the loss that is reported: losses stay comparable between
    strategies, and between rounds in which its strength differs.
    """

    def correct(self, net: nn.Module) -> None:
        """Change the gradients of a network's trainable parameters in place."""
        ...

    def to_arrays(self) -> State:
        """What has gathered since the round began, for the local checkpoint."""
        ...

    def load_arrays(self, state: State) -> None:
        """Take up what `to_arrays` gave.

        Raises:
            CheckpointError: It is of another network or correction.
        """
        ...
