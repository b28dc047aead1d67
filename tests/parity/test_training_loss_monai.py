"""Our loss is MONAI's where both are defined."""

import pytest
import torch
from monai.losses import DiceCELoss

from fedvol.config.learning import SegmentationTask
from fedvol.tasks import SegmentationObjective


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_one_output_costs_what_monai_says(num_classes: int, batch_dice: bool) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    logits = torch.randn(3, num_classes, 6, 5, 4, generator=generator).requires_grad_()
    label = torch.randint(0, num_classes, (3, 6, 5, 4), generator=generator)
    label[0][label[0] == num_classes - 1] = 0  # absent in one sample
    task = SegmentationTask(
        kind="segmentation", dice_weight=0.7, cross_entropy_weight=1.3, batch_dice=batch_dice
    )
    ours = SegmentationObjective(task, num_classes=num_classes).output_loss(logits, label)
    theirs = DiceCELoss(
        include_background=False,
        to_onehot_y=True,
        softmax=True,
        batch=batch_dice,
        lambda_dice=0.7,
        lambda_ce=1.3,
    )(logits, label[:, None])
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    (mine,) = torch.autograd.grad(ours, logits)
    (reference,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-7)
