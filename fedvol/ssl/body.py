"""The body in a patch: what is neither air nor outside the volume."""

import math

from jaxtyping import Bool, Float
from torch import Tensor

_AIR_SHARE = 0.1


def body_voxels(
    image: Float[Tensor, "batch channel i j k"], *, inside: Bool[Tensor, "batch 1 i j k"] | None
) -> Bool[Tensor, "batch 1 i j k"]:
    """Voxels that are neither air nor outside the volume.

    Air is what lies, in every channel, in the lowest tenth of the patch's range of intensities:
    it dominates a CT and is easily restored.

    Args:
        image: Patches.
        inside: Which voxels lie in their volume; None: all of them.
    """
    low, high = intensity_range(image, inside=inside)
    is_body = (image > low + _AIR_SHARE * (high - low)).any(dim=1, keepdim=True)
    return is_body if inside is None else is_body & inside


def intensity_range(
    image: Float[Tensor, "batch channel i j k"], *, inside: Bool[Tensor, "batch 1 i j k"] | None
) -> tuple[Float[Tensor, "batch channel 1 1 1"], Float[Tensor, "batch channel 1 1 1"]]:
    """Smallest and largest intensity of each channel of each patch; arguments as above."""
    voxels, lowest, highest = (2, 3, 4), image, image
    if inside is not None:
        lowest, highest = (image.masked_fill(~inside, end) for end in (math.inf, -math.inf))
    return lowest.amin(voxels, keepdim=True), highest.amax(voxels, keepdim=True)
