"""Losses of segmentation: plain loops, special cases, extremes."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fedvol.config.learning import SegmentationTask
from fedvol.config.losses import DiceCE, DiceFocal, GeneralisedDice, Loss, Tversky
from fedvol.data.batch import Batch
from fedvol.tasks import SegmentationObjective
from fedvol.tasks.losses import (
    focal_loss,
    generalised_dice_loss,
    soft_dice_loss,
    tversky_loss,
)
from fedvol.tasks.segmentation import label_on_grid

LOSSES: tuple[Loss, ...] = (
    DiceCE(kind="dice_ce"),
    DiceFocal(kind="dice_focal"),
    DiceFocal(kind="dice_focal", gamma=1.0),
    Tversky(kind="tversky"),
    GeneralisedDice(kind="generalised_dice"),
)
NUM_CLASSES = 3


def objective(loss: Loss, *, batch_dice: bool = False) -> SegmentationObjective:
    task = SegmentationTask(kind="segmentation", loss=loss, batch_dice=batch_dice)
    return SegmentationObjective(task, num_classes=NUM_CLASSES)


def sample(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of two samples, and a label whose last class the first sample lacks."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, NUM_CLASSES, 4, 3, 5, generator=generator)
    label = torch.randint(0, NUM_CLASSES, (2, 4, 3, 5), generator=generator)
    label[0][label[0] == NUM_CLASSES - 1] = 0
    return logits, label


# --- plain loops ------------------------------------------------------------------------------


def loop_tversky(p: np.ndarray, label: np.ndarray, *, alpha: float, beta: float) -> float:
    costs = []
    for b, c in product(range(p.shape[0]), range(1, p.shape[1])):
        hits = false_positives = false_negatives = 0.0
        for voxel in np.ndindex(*label.shape[1:]):
            is_class, chance = label[b][voxel] == c, p[b, c][voxel]
            hits += chance if is_class else 0.0
            false_positives += 0.0 if is_class else chance
            false_negatives += 1 - chance if is_class else 0.0
        errors = alpha * false_positives + beta * false_negatives
        costs.append(1 - (hits + 1e-5) / (hits + errors + 1e-5))
    return float(np.mean(costs))


def loop_generalised_dice(p: np.ndarray, label: np.ndarray) -> float:
    costs = []
    for b in range(p.shape[0]):
        volumes = [float((label[b] == c).sum()) for c in range(p.shape[1])]
        rarest = min(volume for volume in volumes if volume)
        overlap = size = 0.0
        for c, volume in enumerate(volumes):
            weight = 1 / (volume or rarest) ** 2
            for voxel in np.ndindex(*label.shape[1:]):
                truth = float(label[b][voxel] == c)
                overlap += weight * truth * p[b, c][voxel]
                size += weight * (truth + p[b, c][voxel])
        costs.append(1 - 2 * overlap / size)
    return float(np.mean(costs))


def loop_focal(p: np.ndarray, label: np.ndarray, *, gamma: float) -> float:
    costs = []
    for b in range(p.shape[0]):
        for voxel in np.ndindex(*label.shape[1:]):
            chance = p[b, label[b][voxel]][voxel]
            costs.append(-((1 - chance) ** gamma) * math.log(chance))
    return float(np.mean(costs))


def test_losses_are_those_of_a_plain_loop() -> None:
    logits, label = sample()
    log_p = logits.double().log_softmax(1)
    p, truth = log_p.exp(), label.numpy()
    tversky = tversky_loss(p, label, alpha=0.3, beta=0.8, pool_batch=False)
    assert tversky.item() == pytest.approx(loop_tversky(p.numpy(), truth, alpha=0.3, beta=0.8))
    dice = generalised_dice_loss(p, label, pool_batch=False)
    assert dice.item() == pytest.approx(loop_generalised_dice(p.numpy(), truth), abs=1e-6)
    focal = focal_loss(log_p, label, gamma=2.5)
    assert focal.item() == pytest.approx(loop_focal(p.numpy(), truth, gamma=2.5))


@pytest.mark.parametrize("loss", [tversky_loss, generalised_dice_loss])
def test_pooling_makes_one_sample_of_the_batch(loss: object) -> None:
    logits, label = sample()
    keys = {"alpha": 0.3, "beta": 0.7} if loss is tversky_loss else {}
    p = logits.softmax(1)
    long = torch.cat(tuple(p.split(1)), dim=2), torch.cat(tuple(label.split(1)), dim=1)
    assert callable(loss)
    pooled = loss(p, label, pool_batch=True, **keys)
    torch.testing.assert_close(pooled, loss(*long, pool_batch=False, **keys))


# --- special cases ----------------------------------------------------------------------------


def test_tversky_of_halves_is_the_dice() -> None:
    logits, label = sample()
    p = logits.softmax(1)
    tversky = tversky_loss(p, label, alpha=0.5, beta=0.5, pool_batch=False)
    torch.testing.assert_close(
        tversky, soft_dice_loss(p, label, pool_batch=False), rtol=1e-4, atol=1e-5
    )


def test_tversky_counts_what_is_missed() -> None:
    label = torch.zeros(1, 4, 4, 4, dtype=torch.int64)
    label[0, :2] = 1
    found = torch.zeros(1, 4, 4, 4)
    found[0, :1] = 1  # half of it missed
    more = torch.zeros(1, 4, 4, 4)
    more[0, :3] = 1  # as much again found beside it
    costs = [
        tversky_loss(
            torch.stack((1 - p, p), dim=1), label, alpha=0.3, beta=0.7, pool_batch=False
        ).item()
        for p in (found, more)
    ]
    assert costs == pytest.approx([1 - 16 / (16 + 0.7 * 16), 1 - 32 / (32 + 0.3 * 16)], rel=1e-5)


def test_focal_of_hard_voxels_is_near_the_cross_entropy_and_of_easy_ones_far_less() -> None:
    label = torch.zeros(1, 2, 2, 2, dtype=torch.int64)
    for logit, share in ((-8.0, 0.999), (5.0, 1e-4)):
        logits = torch.stack([torch.full((1, 2, 2, 2), logit), torch.zeros(1, 2, 2, 2)], dim=1)
        ratio = focal_loss(logits.log_softmax(1), label, gamma=2.0) / functional.cross_entropy(
            logits, label
        )
        assert (ratio > share) == (logit < 0), (logit, ratio)


def test_generalised_dice_ignores_how_often_a_grid_is_repeated() -> None:
    logits, label = sample()
    once = generalised_dice_loss(logits.softmax(1), label, pool_batch=False)
    again = generalised_dice_loss(
        logits.repeat(1, 1, 8, 8, 8).softmax(1), label.repeat(1, 8, 8, 8), pool_batch=False
    )
    torch.testing.assert_close(once, again, rtol=1e-4, atol=1e-5)


# --- extremes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1.0, 200.0, -200.0])
@pytest.mark.parametrize("classes", [(0,), (0, 1), (2,), (0, 1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradient_are_finite(
    loss: Loss, batch_dice: bool, scale: float, classes: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Classes that are absent; certainty that is right, wrong, or none; half precision."""
    label = torch.tensor(classes).repeat(2 * 4**3)[: 2 * 4**3].view(2, 4, 4, 4)
    truth = functional.one_hot(label, NUM_CLASSES).movedim(-1, 1)
    logits = (scale * truth).to(dtype).requires_grad_()
    cost = objective(loss, batch_dice=batch_dice).output_loss(logits, label)
    cost.backward()
    assert cost.dtype is torch.float32
    assert math.isfinite(cost.item())
    assert cost.item() >= -1e-6
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    if scale == 200.0:
        assert cost.item() == pytest.approx(0, abs=1e-5)
        assert logits.grad.abs().max() < 1e-3
    if scale == 0.0:
        assert logits.grad.abs().max() > 0


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_step_along_the_gradient_helps(loss: Loss) -> None:
    logits, label = sample()
    logits.requires_grad_()
    make_smaller = objective(loss)
    before = make_smaller.output_loss(logits, label)
    before.backward()
    assert logits.grad is not None
    after = make_smaller.output_loss((logits - 0.5 * logits.grad).detach(), label)
    assert after < before


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_every_loss_is_deeply_supervised(loss: Loss) -> None:
    label = sample()[1].repeat(1, 2, 4, 2)[:, :8, :8, :8]
    outputs = [
        torch.randn(2, NUM_CLASSES, n, n, n, generator=torch.Generator().manual_seed(n))
        for n in (8, 4)
    ]

    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(outputs)

    whole = objective(loss).loss(Net(), Batch(image=torch.zeros(2, 1, 8, 8, 8), label=label))
    fine, coarse = (
        objective(loss).output_loss(y, label_on_grid(label, grid=tuple(y.shape[2:])))
        for y in outputs
    )
    torch.testing.assert_close(whole, (2 * fine + coarse) / 3)
