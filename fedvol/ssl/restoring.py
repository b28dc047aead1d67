"""Restoring masked intensities: the loss, and how well it is done in numbers and to look at."""

from collections.abc import Callable
from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from fedvol.data.batch import UnlabelledBatch
from fedvol.ssl.body import body_voxels
from fedvol.ssl.judging import judging
from fedvol.ssl.masks import MaskedPatches, mask_patches, masked_mse
from fedvol.ssl.task import PretextPicture, PretextScore
from fedvol.types import Triple

Image = Float[Tensor, "batch channel i j k"]


@final
class RestoringTask:
    """Mean squared error of what a network restores, over the masked voxels; a `Pretext`.

    Padding is not among these. What is masked of a batch may be padding alone: then the loss is 0.

    Args:
        mask_ratio: Share of the blocks that are masked.
        block: Voxels of a block along i, j, k.
        restore: Applies a network to masked patches.
    """

    def __init__(
        self,
        *,
        mask_ratio: float,
        block: Triple,
        restore: Callable[[nn.Module, MaskedPatches], Image],
    ) -> None:
        self._mask_ratio = mask_ratio
        self._block = block
        self._restore = restore

    def transform(self, batch: UnlabelledBatch) -> MaskedPatches:
        """Mask blocks of the patches."""
        return mask_patches(batch, mask_ratio=self._mask_ratio, block=self._block)

    def loss(self, net: nn.Module, batch: UnlabelledBatch) -> Float[Tensor, ""]:
        """Mask the batch, restore it, and compare where it was masked."""
        patches = self.transform(batch)
        return masked_mse(self._restore(net, patches), patches.wanted, voxels=patches.to_restore)

    def score(self, net: nn.Module, batch: UnlabelledBatch) -> PretextScore:
        """Judge a network; the best constant has a value for each channel."""
        patches = self.transform(batch)
        with judging(net):
            given = self._restore(net, patches)
        masked, wanted = patches.to_restore, patches.wanted
        mean = (wanted * masked).sum((0, 2, 3, 4), keepdim=True) / masked.sum().clamp_min(1)
        body = masked & body_voxels(wanted, inside=patches.inside)
        return PretextScore(
            loss=masked_mse(given, wanted, voxels=masked).item(),
            trivial_loss=masked_mse(mean, wanted, voxels=masked).item(),
            body_loss=masked_mse(given, wanted, voxels=body).item() if body.any() else None,
        )

    def picture(self, net: nn.Module, batch: UnlabelledBatch) -> PretextPicture:
        """What the network makes of the first patch."""
        patches = self.transform(batch)
        with judging(net):
            given = self._restore(net, patches)
        body = body_voxels(patches.wanted, inside=patches.inside)
        return PretextPicture(
            shown=patches.shown[0],
            wanted=patches.wanted[0],
            given=given[0].float(),
            changed=(patches.to_restore & body)[0, 0],
        )
