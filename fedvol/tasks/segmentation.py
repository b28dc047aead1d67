"""Semantic segmentation: soft Dice plus cross-entropy over the outputs of every level."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from fedvol.config.learning import SegmentationTask
from fedvol.data.batch import Batch

_SMOOTH = 1e-5


class SegmentationObjective:
    """Weighted soft Dice and cross-entropy, deeply supervised; an `Objective`.

    The output of level s counts 1/2^s, divided by the sum over the levels, and is compared with
    the label of every n-th voxel, n being the level's stride.

    Args:
        config: Weights of the two losses, and over what the Dice is pooled.
        num_classes: Classes, background included.

    References: Milletari et al. (2016), arXiv:1606.04797; Isensee et al. (2021),
    doi:10.1038/s41592-020-01008-z.
    """

    def __init__(self, config: SegmentationTask, *, num_classes: int) -> None:
        self._config = config
        self._num_classes = num_classes

    def loss(self, net: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Loss of a network that gives logits, finest first."""
        outputs = net(batch.image)
        weights = [0.5**level for level in range(len(outputs))]
        total = batch.image.new_zeros(())
        for weight, logits in zip(weights, outputs, strict=True):
            label = label_on_grid(batch.label, grid=tuple(logits.shape[2:]))
            total = total + weight / sum(weights) * self.output_loss(logits, label)
        return total

    def output_loss(
        self, logits: Float[Tensor, "batch class i j k"], label: Int64[Tensor, "batch i j k"]
    ) -> Float[Tensor, ""]:
        """Loss of one output against the label on its grid, in float32."""
        if logits.shape[1] != self._num_classes:
            raise ValueError(f"{logits.shape[1]} logits per voxel for {self._num_classes} classes")
        log_probability = functional.log_softmax(logits.float(), dim=1)
        cross_entropy = functional.nll_loss(log_probability, label)
        dice = soft_dice_loss(log_probability.exp(), label, pool_batch=self._config.batch_dice)
        return self._config.dice_weight * dice + self._config.cross_entropy_weight * cross_entropy


def soft_dice_loss(
    probability: Float[Tensor, "batch class i j k"],
    label: Int64[Tensor, "batch i j k"],
    *,
    pool_batch: bool,
) -> Float[Tensor, ""]:
    """1 - soft Dice, averaged over the classes but background, and over samples.

    A class that is absent from a sample costs nearly 1 as soon as it is predicted with any
    certainty, and 0 if it is not: 1e-5 is added to both sides of the fraction.

    Args:
        probability: Class probabilities.
        label: Class indices.
        pool_batch: Take the sums over the whole batch, not over each sample.
    """
    classes = torch.arange(1, probability.shape[1], device=label.device)
    truth = label.unsqueeze(1) == classes.view(1, -1, 1, 1, 1)
    foreground = probability[:, 1:]
    voxels = (0, 2, 3, 4) if pool_batch else (2, 3, 4)
    overlap = (foreground * truth).sum(voxels)
    size = foreground.sum(voxels) + truth.sum(voxels)
    return 1.0 - ((2.0 * overlap + _SMOOTH) / (size + _SMOOTH)).mean()


def label_on_grid(
    label: Int64[Tensor, "batch i j k"], *, grid: tuple[int, ...]
) -> Int64[Tensor, "batch i2 j2 k2"]:
    """The label at every n-th voxel, n along each axis so that `grid` comes out."""
    full = tuple(label.shape[1:])
    if full == grid:
        return label
    if any(side % coarse for side, coarse in zip(full, grid, strict=True)):
        raise ValueError(f"a label of {full} voxels has no grid of {grid}")
    i, j, k = (side // coarse for side, coarse in zip(full, grid, strict=True))
    return label[:, ::i, ::j, ::k].contiguous()
