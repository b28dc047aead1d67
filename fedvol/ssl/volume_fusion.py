"""Volume Fusion: say, voxel by voxel, by how much of one scan another was replaced.

Reference: Wang et al. (2023), arXiv:2306.16925 (MIS-FM).
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Generator, Tensor, nn
from torch.nn import functional

from fedvol.config.network import Network
from fedvol.config.pretext import VolumeFusion
from fedvol.data.batch import UnlabelledBatch
from fedvol.models import build_network
from fedvol.ssl.boxes import draw_boxes, slices
from fedvol.ssl.judging import judging
from fedvol.ssl.task import PretextPicture, PretextScore
from fedvol.types import Triple

Label = Int64[Tensor, "batch i j k"]
Inside = Bool[Tensor, "batch i j k"]

_SMOOTH = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """Pairs of patches, fused.

    Attributes:
        image: a F + (1 - a) B, F being the first of a pair and B its partner.
        label: K a: 0 where B is seen alone, K where F is.
        inside: Where both of a pair lie in their volumes; None: everywhere. Elsewhere there is
            nothing to tell, because padding is seen for one of them.
    """

    image: Float[Tensor, "batch channel i j k"]
    label: Label
    inside: Inside | None


@final
class VolumeFusionTask:
    """Shares of a blend as classes; a `Pretext` over batches whose second half are partners.

    The share a is 0 but in boxes, which are pasted one after another, each with a share of its own
    from 1/K to 1. Where either of a pair is padding, no class is asked for; two small volumes may
    lie so that this is everywhere, and the loss 0.

    Args:
        config: The task's section.
    """

    def __init__(self, config: VolumeFusion) -> None:
        self._config = config

    def transform(self, batch: UnlabelledBatch) -> Fusion:
        """Fuse each patch of the first half with its partner in the second.

        Raises:
            ValueError: The batch is no whole number of pairs.
        """
        if len(batch.image) % 2:
            raise ValueError(f"{len(batch.image)} patches are no pairs")
        foreground, background = batch.image.chunk(2)
        grid, generator = _grid(foreground), batch.generator()
        levels = torch.stack([self._draw_levels(grid, generator) for _ in foreground])
        levels = levels.to(foreground.device)
        share = levels.unsqueeze(1) / self._config.levels
        # In this form the ends are exact: F times 1 plus B times 0, and the reverse.
        image = foreground * share + background * (1 - share)
        inside = None
        if batch.inside is not None:
            front, back = batch.inside.squeeze(1).chunk(2)
            inside = front & back
        return Fusion(image=image, label=levels.long(), inside=inside)

    def loss(self, net: nn.Module, batch: UnlabelledBatch) -> Float[Tensor, ""]:
        """Half soft Dice, half cross-entropy; coarser outputs count 1/2 of those before."""
        fusion = self.transform(batch)
        outputs = net(fusion.image)
        weights = [0.5**level for level in range(len(outputs))]
        total = fusion.image.new_zeros(())
        for weight, logits in zip(weights, outputs, strict=True):
            grid = _grid(logits)
            label = _on_grid(fusion.label, grid=grid)
            inside = None if fusion.inside is None else _on_grid(fusion.inside, grid=grid)
            total = total + weight / sum(weights) * fusion_loss(logits, label, inside=inside)
        return total

    def score(self, net: nn.Module, batch: UnlabelledBatch) -> PretextScore:
        """Loss at full resolution, beside that of the best shares of classes for every voxel."""
        fusion = self.transform(batch)
        with judging(net):
            loss = fusion_loss(net(fusion.image)[0], fusion.label, inside=fusion.inside)
        asked = fusion.label.flatten() if fusion.inside is None else fusion.label[fusion.inside]
        counts = torch.bincount(asked, minlength=self._config.levels + 1)
        return PretextScore(loss=loss.item(), trivial_loss=best_constant_loss(counts.cpu()))

    def picture(self, net: nn.Module, batch: UnlabelledBatch) -> PretextPicture:
        """The first fused patch, its classes, and the likeliest ones."""
        fusion = self.transform(batch)
        with judging(net):
            given = net(fusion.image)[0][:1].argmax(1)
        is_fused = fusion.label[0] > 0
        return PretextPicture(
            shown=fusion.image[0],
            wanted=fusion.label[:1].float(),
            given=given.float(),
            changed=is_fused if fusion.inside is None else is_fused & fusion.inside[0],
        )

    def _draw_levels(self, grid: Triple, generator: Generator) -> UInt8[Tensor, "i j k"]:
        """K a of one patch."""
        config = self._config
        fewest, most = config.boxes
        count = int(torch.randint(fewest, most + 1, (), generator=generator))
        i, j, k = (int(config.largest_side * side) for side in grid)
        least = config.smallest_side
        boxes = draw_boxes(
            count, grid=grid, smallest=(least, least, least), largest=(i, j, k), generator=generator
        )
        values = torch.randint(1, config.levels + 1, (count,), generator=generator)
        levels = torch.zeros(grid, dtype=torch.uint8)
        painted = levels.numpy()
        for box, value in zip(slices(boxes), values.tolist(), strict=True):
            painted[box] = value
        return levels


def volume_fusion_network(
    config: VolumeFusion, network: Network, *, in_channels: int, patch: Triple, seed: int
) -> nn.Module:
    """The study's network with a class for each share; all but its heads transfers by name.

    Args:
        config: The task's section.
        network: The study's network.
        in_channels: Channels of the image.
        patch: Voxels of a patch along i, j, k.
        seed: Seed of the weights.
    """
    return build_network(
        network, in_channels=in_channels, num_classes=config.levels + 1, patch=patch, seed=seed
    )


def fusion_loss(
    logits: Float[Tensor, "batch class i j k"], label: Label, *, inside: Inside | None = None
) -> Float[Tensor, ""]:
    """Half of 1 - soft Dice, over all classes and pooled over the batch, half cross-entropy.

    In float32. The Dice is a ratio of sums, where the paper's formula divides voxel by voxel.

    Args:
        logits: The network's answer.
        label: The classes.
        inside: Voxels that count, 0 being the loss where none does; None: all of them.
    """
    log_p = functional.log_softmax(logits.float(), dim=1)
    p, voxels = log_p.exp(), (0, 2, 3, 4)
    classes = torch.arange(p.shape[1], device=p.device)
    truth = label.unsqueeze(1) == classes.view(1, -1, 1, 1, 1)
    if inside is None:
        entropy = functional.nll_loss(log_p, label)
    else:
        entropies = functional.nll_loss(log_p, label, reduction="none")
        entropy = (entropies * inside).sum() / inside.sum().clamp_min(1)
        p, truth = p * inside.unsqueeze(1), truth & inside.unsqueeze(1)
    dice = _dice((p * truth).sum(voxels), p.sum(voxels), truth.sum(voxels))
    return (1.0 - dice.mean()) / 2 + entropy / 2


def best_constant_loss(counts: Int64[Tensor, " class"]) -> float:
    """Smallest `fusion_loss` of one distribution of classes for all voxels.

    The loss is convex in the distribution q; for classes of share s its gradient is the same for
    all of them where q is proportional to s + 2/C q s^2 / (q + s)^2, which is iterated.

    Args:
        counts: Voxels of each class; 0 is the loss where there is none.
    """
    truth = counts.double()
    if not truth.any():
        return 0.0
    share = truth / truth.sum()
    q = share.clone()
    for _ in range(50):
        q = share + 2 / len(q) * q * (share / (q + share).clamp(min=1e-12)).square()
        q /= q.sum()
    dice = _dice(q * truth, q * truth.sum(), truth)
    entropy = -torch.special.xlogy(share, q).sum()
    return float((1.0 - dice.mean()) / 2 + entropy / 2)


def _dice(overlap: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
    return (2.0 * overlap + _SMOOTH) / (predicted + truth + _SMOOTH)


def _on_grid(label: Label | Inside, *, grid: Triple) -> Tensor:
    """What is said of voxels, at every n-th along each axis."""
    i, j, k = (full // coarse for full, coarse in zip(label.shape[1:], grid, strict=True))
    return label[:, ::i, ::j, ::k].contiguous()


def _grid(image: Float[Tensor, "batch channel i j k"]) -> Triple:
    i, j, k = image.shape[2:]
    return i, j, k
