"""The body in a patch: what is neither air nor outside the volume."""

from jaxtyping import Bool, Float
from torch import Tensor

from fedvol.data.case_store import PADDING

_AIR_SHARE = 0.1


def body_voxels(image: Float[Tensor, "batch channel i j k"]) -> Bool[Tensor, "batch 1 i j k"]:
    """Voxels that are neither air nor outside the volume.

    Air is what lies, in every channel, in the lowest tenth of the patch's range of intensities:
    it dominates a CT and is easily restored.
    """
    voxels = (2, 3, 4)
    low, high = image.amin(voxels, keepdim=True), image.amax(voxels, keepdim=True)
    is_above = image > low + _AIR_SHARE * (high - low)
    return (is_above & (image != PADDING)).any(dim=1, keepdim=True)
