"""Our losses are MONAI's where both are defined."""

from collections.abc import Callable

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss, GeneralizedDiceLoss, TverskyLoss

from fedvol.config.learning import SegmentationTask
from fedvol.config.losses import DiceCE, DiceFocal, GeneralisedDice, Loss, Tversky
from fedvol.tasks import SegmentationObjective

Theirs = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
FOREGROUND = {"include_background": False, "to_onehot_y": True, "softmax": True}


def _dice_ce(*, batch: bool) -> Theirs:
    return DiceCELoss(**FOREGROUND, batch=batch, lambda_dice=0.7, lambda_ce=1.3)


def _dice_focal(*, batch: bool) -> Theirs:
    dice = DiceLoss(**FOREGROUND, batch=batch)
    focal = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=1.5)
    # Theirs is the mean over voxels and classes, ours the mean over voxels.
    return lambda logits, label: (
        0.7 * dice(logits, label) + 1.3 * logits.shape[1] * focal(logits, label)
    )


def _tversky(*, batch: bool) -> Theirs:
    return TverskyLoss(**FOREGROUND, batch=batch, alpha=0.2, beta=0.9)


def _generalised_dice(*, batch: bool) -> Theirs:
    # Their weights are small numbers beside which their smoothing is not.
    return GeneralizedDiceLoss(
        to_onehot_y=True, softmax=True, batch=batch, smooth_nr=1e-12, smooth_dr=1e-12
    )


PAIRS: dict[str, tuple[Loss, Callable[..., Theirs]]] = {
    "dice_ce": (DiceCE(kind="dice_ce", dice_weight=0.7, cross_entropy_weight=1.3), _dice_ce),
    "dice_focal": (
        DiceFocal(kind="dice_focal", dice_weight=0.7, focal_weight=1.3, gamma=1.5),
        _dice_focal,
    ),
    "tversky": (Tversky(kind="tversky", alpha=0.2, beta=0.9), _tversky),
    "generalised_dice": (GeneralisedDice(kind="generalised_dice"), _generalised_dice),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_one_output_costs_what_monai_says(num_classes: int, batch_dice: bool, name: str) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    logits = torch.randn(3, num_classes, 6, 5, 4, generator=generator).requires_grad_()
    label = torch.randint(0, num_classes, (3, 6, 5, 4), generator=generator)
    label[0][label[0] == num_classes - 1] = 0  # absent in one sample
    loss, reference = PAIRS[name]
    task = SegmentationTask(kind="segmentation", loss=loss, batch_dice=batch_dice)
    ours = SegmentationObjective(task, num_classes=num_classes).output_loss(logits, label)
    theirs = reference(batch=batch_dice)(logits, label[:, None])
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    (mine,) = torch.autograd.grad(ours, logits)
    (expected,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-7)
