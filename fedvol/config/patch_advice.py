"""Advice on patches that lose much of their image where they are rotated."""

import math
from collections.abc import Sequence

from fedvol.config.data import Augmentation

_THIN = 3
"""A patch whose longest side is more than so many times its shortest is thin."""


def rotation_advice(size: Sequence[int], *, augmentation: Augmentation) -> str:
    """What to change where thin patches are turned out of their own volume; empty where not.

    A patch is rotated after it was cropped, about every axis and in voxels, and zeros fill what
    comes from outside it. Turned by an angle whose sine is shortest / longest side, the far end
    of a thin patch has left the patch by half of its thickness.

    Args:
        size: Voxels of a patch along i, j, k.
        augmentation: How patches are changed.
    """
    shortest, longest = min(size), max(size)
    if longest <= _THIN * shortest or not augmentation.rotation_probability:
        return ""
    largest = math.floor(math.degrees(math.asin(shortest / longest)))
    if augmentation.rotation_deg <= largest:
        return ""
    return (
        f"augmentation.rotation_deg: patches of {' × '.join(map(str, size))} voxels are thin, and "
        f"turned by up to {augmentation.rotation_deg:g} degrees about every axis they lose much of "
        f"their image to zeros; think of {largest} degrees or less"
    )
