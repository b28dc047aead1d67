"""`Batch`: what one training step sees."""

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Patches of one step.

    Attributes:
        image: Normalised intensities, (batch, channel, i, j, k).
        label: Class index per voxel, (batch, i, j, k).
    """

    image: Float[Tensor, "batch channel i j k"]
    label: Int64[Tensor, "batch i j k"]


class BatchSource(Protocol):
    """Gives the batch of a step as a function of the step alone, so a restart repeats it."""

    def batch(self, step: int) -> Batch:
        """The batch of one step, counted from 0 over the whole stage."""
        ...
