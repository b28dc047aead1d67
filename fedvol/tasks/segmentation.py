"""Semantic segmentation: a loss over the outputs of every level."""

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from fedvol.config.learning import SegmentationTask
from fedvol.data.batch import Batch
from fedvol.tasks.losses import build_loss


class SegmentationObjective:
    """The study's loss, deeply supervised; an `Objective`.

    The output of level s counts 1/2^s, divided by the sum over the levels, and is compared with
    the label of every n-th voxel, n being the level's stride; a network that brings its coarser
    outputs to the finest grid itself (`pct_net`) has them compared with every voxel. The coarsest
    level counts too, by the least weight, where nnU-Net leaves it out: with the few levels of a
    small network it says much of what they learn from.

    Args:
        config: Which loss, and over what overlaps are pooled.
        num_classes: Classes, background included.

    Reference: Isensee et al. (2021), doi:10.1038/s41592-020-01008-z, for weights by level.
    """

    def __init__(self, config: SegmentationTask, *, num_classes: int) -> None:
        self._loss = build_loss(config.loss, pool_batch=config.batch_dice)
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
        return self._loss(functional.log_softmax(logits.float(), dim=1), label)


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
