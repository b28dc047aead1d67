"""What every pretext task can do, beside being an `Objective`."""

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from fedvol.data.batch import UnlabelledBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class PretextScore:
    """How well a network does a task on one batch, for judging; no gradient.

    Attributes:
        loss: The task's loss.
        trivial_loss: The loss of the best answer that does not look at the input: a constant for
            restored intensities, the classes' shares for classes, one likeness of all pairs for
            crops.
        body_loss: Restored intensities: the loss on voxels of the body alone, because air is easy;
            None for other tasks, and where no such voxel was to be restored.
    """

    loss: float
    trivial_loss: float
    body_loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PretextPicture:
    """What a network was shown, what was wanted of it, and what it gave; the first sample.

    Attributes:
        shown: The transformed patch.
        wanted: Intensities, or classes, per voxel.
        given: The network's answer to it.
        changed: What is worth a look: voxels that the task changed and asks for, of the body where
            it restores intensities.
    """

    shown: Float[Tensor, "channel i j k"]
    wanted: Float[Tensor, "channel i j k"]
    given: Float[Tensor, "channel i j k"]
    changed: Bool[Tensor, "i j k"]

    @property
    def changed_area(self) -> Int64[Tensor, " k"]:
        """Voxels worth a look in each axial slice."""
        return self.changed.sum((0, 1))


class Pretext(Protocol):
    """A pretext task. Everything it draws comes from the batch's seed (`UnlabelledBatch`)."""

    def loss(self, net: nn.Module, batch: UnlabelledBatch) -> Float[Tensor, ""]:
        """Transform the batch, apply the network and return the loss, a float32 scalar."""
        ...

    def score(self, net: nn.Module, batch: UnlabelledBatch) -> PretextScore:
        """Judge a network in evaluation mode, without gradients."""
        ...

    def picture(self, net: nn.Module, batch: UnlabelledBatch) -> PretextPicture | None:
        """What the network makes of the first patch; None where there is nothing to see."""
        ...
