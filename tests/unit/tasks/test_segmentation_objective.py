"""The objective of segmentation: hand-worked cases, levels, grids."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedvol.config.learning import SegmentationTask
from fedvol.config.losses import DiceCE
from fedvol.data.batch import Batch
from fedvol.tasks import SegmentationObjective, build_objective
from fedvol.tasks.losses import soft_dice_loss
from fedvol.tasks.segmentation import label_on_grid


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Fixed(nn.Module):
    """Gives the outputs it was made with."""

    def __init__(self, *outputs: torch.Tensor) -> None:
        super().__init__()
        self._outputs = outputs

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._outputs


def batch(label: torch.Tensor) -> Batch:
    return Batch(image=torch.zeros(label.shape[0], 1, *label.shape[1:]), label=label)


def random_label(*shape: int, num_classes: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, num_classes, shape, generator=generator)


def test_perfect_prediction_costs_nothing() -> None:
    label = random_label(2, 4, 4, 4)
    logits = 100.0 * functional.one_hot(label, 3).movedim(-1, 1).float()
    objective = build_objective(SegmentationTask(kind="segmentation"), num_classes=3)
    assert objective.loss(Fixed(logits), batch(label)).item() == pytest.approx(0, abs=1e-6)


def test_uniform_prediction_by_hand() -> None:
    label = torch.zeros(1, 2, 2, 2, dtype=torch.int64)
    label[0, 0] = 1  # 4 of 8 voxels
    objective = SegmentationObjective(SegmentationTask(kind="segmentation"), num_classes=2)
    loss = objective.loss(Fixed(torch.zeros(1, 2, 2, 2, 2)), batch(label))
    # overlap 4/2, sizes 8/2 and 4: Dice 4/8
    assert loss.item() == pytest.approx(0.5 + math.log(2), rel=1e-5)


def test_absent_class() -> None:
    label = torch.zeros(1, 4, 4, 4, dtype=torch.int64)
    nothing = torch.stack([torch.ones(1, 4, 4, 4), torch.zeros(1, 4, 4, 4)], dim=1)
    assert soft_dice_loss(nothing, label, pool_batch=False).item() == pytest.approx(0, abs=1e-6)
    everything = nothing.flip(1)
    assert soft_dice_loss(everything, label, pool_batch=False).item() == pytest.approx(1, abs=1e-5)


def test_pooling_over_the_batch_forgives_a_sample_without_the_class() -> None:
    label = torch.zeros(2, 4, 4, 4, dtype=torch.int64)
    label[0] = 1
    foreground = torch.zeros(2, 4, 4, 4)
    foreground[0], foreground[1, 0, 0, 0] = 1, 1
    probability = torch.stack([1 - foreground, foreground], dim=1)
    pooled = soft_dice_loss(probability, label, pool_batch=True).item()
    assert pooled == pytest.approx(1 - 2 * 64 / (65 + 64), rel=1e-4)
    assert soft_dice_loss(probability, label, pool_batch=False).item() == pytest.approx(
        0.5, rel=1e-4
    )


def test_levels_count_by_halves() -> None:
    label = random_label(1, 8, 8, 8)
    outputs = [noise(1, 3, side, side, side) for side in (8, 4, 2)]
    objective = SegmentationObjective(SegmentationTask(kind="segmentation"), num_classes=3)
    single = [
        objective.loss(Fixed(output), batch(label_on_grid(label, grid=tuple(output.shape[2:]))))
        for output in outputs
    ]
    expected = (single[0] + single[1] / 2 + single[2] / 4) / 1.75
    torch.testing.assert_close(objective.loss(Fixed(*outputs), batch(label)), expected)


def test_weights_of_the_two_losses() -> None:
    label, logits = random_label(1, 4, 4, 4), noise(1, 3, 4, 4, 4)

    def loss(dice: float, cross_entropy: float) -> torch.Tensor:
        weights = DiceCE(kind="dice_ce", dice_weight=dice, cross_entropy_weight=cross_entropy)
        task = SegmentationTask(kind="segmentation", loss=weights)
        return SegmentationObjective(task, num_classes=3).loss(Fixed(logits), batch(label))

    torch.testing.assert_close(loss(0, 1), functional.cross_entropy(logits, label))
    torch.testing.assert_close(loss(2, 3), 2 * loss(1, 0) + 3 * loss(0, 1))


@pytest.mark.parametrize("grid", [(8, 8, 4), (4, 2, 4), (2, 8, 1)])
def test_label_on_grid_is_nearest_interpolation(grid: tuple[int, int, int]) -> None:
    label = random_label(2, 8, 8, 4)
    nearest = functional.interpolate(label[:, None].double(), size=grid, mode="nearest")
    assert torch.equal(label_on_grid(label, grid=grid), nearest[:, 0].long())


def test_a_grid_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="no grid"):
        label_on_grid(random_label(1, 8, 8, 8), grid=(3, 4, 4))


def test_wrong_number_of_logits_is_refused() -> None:
    objective = SegmentationObjective(SegmentationTask(kind="segmentation"), num_classes=4)
    with pytest.raises(ValueError, match="3 logits per voxel for 4"):
        objective.loss(Fixed(torch.zeros(1, 3, 4, 4, 4)), batch(random_label(1, 4, 4, 4)))


def test_loss_is_float32_under_autocast() -> None:
    label = random_label(1, 4, 4, 4)
    logits = noise(1, 3, 4, 4, 4)
    objective = SegmentationObjective(SegmentationTask(kind="segmentation"), num_classes=3)
    expected = objective.loss(Fixed(logits.bfloat16().float()), batch(label))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective.loss(Fixed(logits.bfloat16()), batch(label))
    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
