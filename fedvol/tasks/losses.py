"""Losses of one segmentation output, finite for absent classes and for certainty."""

from collections.abc import Callable
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from fedvol.config.losses import DiceCE, DiceFocal, GeneralisedDice, Loss, Tversky

LogProbability = Float[Tensor, "batch class i j k"]
Probability = Float[Tensor, "batch class i j k"]
Label = Int64[Tensor, "batch i j k"]
Scalar = Float[Tensor, ""]

_SMOOTH = 1e-5


def build_loss(config: Loss, *, pool_batch: bool) -> Callable[[LogProbability, Label], Scalar]:
    """The loss of log-probabilities against a label.

    Args:
        config: Which loss.
        pool_batch: Take the sums of an overlap over the whole batch, not over each sample.
    """
    match config:
        case DiceCE():
            return lambda log_p, label: (
                config.dice_weight * soft_dice_loss(log_p.exp(), label, pool_batch=pool_batch)
                + config.cross_entropy_weight * functional.nll_loss(log_p, label)
            )
        case DiceFocal():
            return lambda log_p, label: (
                config.dice_weight * soft_dice_loss(log_p.exp(), label, pool_batch=pool_batch)
                + config.focal_weight * focal_loss(log_p, label, gamma=config.gamma)
            )
        case Tversky():
            return lambda log_p, label: tversky_loss(
                log_p.exp(), label, alpha=config.alpha, beta=config.beta, pool_batch=pool_batch
            )
        case GeneralisedDice():
            return lambda log_p, label: generalised_dice_loss(
                log_p.exp(), label, pool_batch=pool_batch
            )
        case _:
            assert_never(config)


def soft_dice_loss(probability: Probability, label: Label, *, pool_batch: bool) -> Scalar:
    """1 - soft Dice, averaged over the classes but background, and over samples.

    A class that is absent from a sample costs nearly 1 as soon as it is predicted with any
    certainty, and 0 if it is not: 1e-5 is added to both sides of the fraction.

    Args:
        probability: Class probabilities.
        label: Class indices.
        pool_batch: Take the sums over the whole batch, not over each sample.

    Reference: Milletari et al. (2016), arXiv:1606.04797.
    """
    truth = _one_hot(label, num_classes=probability.shape[1])[:, 1:]
    foreground = probability[:, 1:]
    voxels = _sum_over(pool_batch)
    overlap = (foreground * truth).sum(voxels)
    size = foreground.sum(voxels) + truth.sum(voxels)
    return 1.0 - ((2.0 * overlap + _SMOOTH) / (size + _SMOOTH)).mean()


def focal_loss(log_probability: LogProbability, label: Label, *, gamma: float) -> Scalar:
    """Mean over voxels of -(1 - p)^gamma log p, p being the probability of the true class.

    Args:
        log_probability: Logarithms of class probabilities.
        label: Class indices.
        gamma: Focusing exponent, at least 1; with 0 this would be the cross-entropy, and between
            the gradient of a certain voxel is infinite.

    Reference: Lin et al. (2017), arXiv:1708.02002, equation 4.
    """
    log_p = log_probability.gather(1, label.unsqueeze(1))
    doubt = -torch.expm1(log_p)  # 1 - p, exact where p is nearly 1
    return -(doubt.pow(gamma) * log_p).mean()


def tversky_loss(
    probability: Probability, label: Label, *, alpha: float, beta: float, pool_batch: bool
) -> Scalar:
    """1 - Tversky index, averaged over the classes but background, and over samples.

    Args:
        probability: Class probabilities.
        label: Class indices.
        alpha: Weight of false positives.
        beta: Weight of false negatives.
        pool_batch: Take the sums over the whole batch, not over each sample.

    Reference: Salehi et al. (2017), arXiv:1706.05721, equation 3.
    """
    truth = _one_hot(label, num_classes=probability.shape[1])[:, 1:]
    foreground = probability[:, 1:]
    voxels = _sum_over(pool_batch)
    hits = (foreground * truth).sum(voxels)
    false_positives = foreground.sum(voxels) - hits
    false_negatives = truth.sum(voxels) - hits
    errors = alpha * false_positives + beta * false_negatives
    return 1.0 - ((hits + _SMOOTH) / (hits + errors + _SMOOTH)).mean()


def generalised_dice_loss(probability: Probability, label: Label, *, pool_batch: bool) -> Scalar:
    """1 - one Dice over all classes, each weighted by 1 / (its voxels) squared.

    Weights are scaled so that the largest is 1, which the ratio does not notice but rounding and
    the smoothing do. A class without a voxel counts like the rarest that has one.

    Args:
        probability: Class probabilities.
        label: Class indices.
        pool_batch: Take the sums over the whole batch, not over each sample.

    Reference: Sudre et al. (2017), arXiv:1707.03237, equation 3.
    """
    truth = _one_hot(label, num_classes=probability.shape[1])
    voxels = _sum_over(pool_batch)
    volume = truth.sum(voxels).to(probability.dtype)
    rarest = volume.where(volume > 0, torch.inf).amin(dim=-1, keepdim=True)
    weight = (rarest / volume.maximum(rarest)).square()
    overlap = (weight * (probability * truth).sum(voxels)).sum(-1)
    size = (weight * (probability.sum(voxels) + volume)).sum(-1)
    return 1.0 - ((2.0 * overlap + _SMOOTH) / (size + _SMOOTH)).mean()


def _one_hot(label: Label, *, num_classes: int) -> Bool[Tensor, "batch class i j k"]:
    classes = torch.arange(num_classes, device=label.device)
    return label.unsqueeze(1) == classes.view(1, -1, 1, 1, 1)


def _sum_over(pool_batch: bool) -> tuple[int, ...]:
    return (0, 2, 3, 4) if pool_batch else (2, 3, 4)
