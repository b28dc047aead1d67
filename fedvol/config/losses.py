"""Losses of segmentation a study may ask for."""

from typing import Annotated, Literal

from pydantic import Field

from fedvol.config.base import Section

Weight = Annotated[float, Field(ge=0, le=100)]


class DiceCE(Section):
    """Soft Dice plus cross-entropy; the usual choice (Isensee et al. 2021)."""

    kind: Literal["dice_ce"]
    dice_weight: Weight = 1.0
    """Weight of the soft Dice loss, background left out."""
    cross_entropy_weight: Weight = 1.0
    """Weight of the cross-entropy."""


class DiceFocal(Section):
    """Soft Dice plus focal loss, in which voxels that are right count less (Lin et al. 2017)."""

    kind: Literal["dice_focal"]
    dice_weight: Weight = 1.0
    """Weight of the soft Dice loss, background left out."""
    focal_weight: Weight = 1.0
    """Weight of the focal loss."""
    gamma: Annotated[float, Field(ge=1, le=5)] = 2.0
    """Focusing exponent: the cross-entropy of a voxel counts (1 - p) ** gamma."""


class Tversky(Section):
    """Dice with a weight for each kind of error, for small structures (Salehi et al. 2017)."""

    kind: Literal["tversky"]
    alpha: Annotated[float, Field(ge=0, le=10)] = 0.3
    """Weight of false positives; with alpha = beta = 0.5 it is the soft Dice."""
    beta: Annotated[float, Field(ge=0, le=10)] = 0.7
    """Weight of false negatives; above alpha it favours finding over sparing."""


class GeneralisedDice(Section):
    """One Dice over all classes, background included, rare ones counted more (Sudre et al. 2017).

    A class counts 1 / (its voxels) squared; one that is absent counts like the rarest present.
    """

    kind: Literal["generalised_dice"]


Loss = Annotated[DiceCE | DiceFocal | Tversky | GeneralisedDice, Field(discriminator="kind")]
