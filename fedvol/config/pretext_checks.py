"""What a pretext task asks of the network, the patches and the preparation of a study."""

import math
from collections.abc import Iterator

from fedvol.config.data import Spacing
from fedvol.config.network import (
    Network,
    ResidualEncoderPreset,
    ResidualEncoderUNet,
    UNet,
)
from fedvol.config.open_study import OpenNetwork, PlannedNetwork
from fedvol.config.pretext import ModelsGenesis, RotationPrediction, VolumeFusion
from fedvol.errors import Problem
from fedvol.types import Triple

AnyNetwork = Network | OpenNetwork

WITH_ENCODER = UNet | ResidualEncoderUNet | ResidualEncoderPreset | PlannedNetwork
"""Networks whose encoder stands alone."""

_WINDOWS_PER_SIDE = 10
"""Models Genesis: sides of a patch per longest side of a window."""


def models_genesis_on(
    config: ModelsGenesis, *, where: str, patch: Triple, network: AnyNetwork
) -> Iterator[Problem]:
    """Patches must be disturbed, and windows hold more than a voxel.

    Args:
        config: The task's section.
        where: Its key path.
        patch: Voxels along i, j, k.
        network: The study's network.
    """
    yield from _values_per_voxel(config.kind, network)
    disturbing = ("shuffle_probability", "intensity_probability", "paint_probability")
    if not any(getattr(config, name) for name in disturbing):
        yield Problem(
            where=f"{where}.kind",
            what=f"{', '.join(disturbing)} are all 0, so that the network would learn to copy",
            fix="Set one of them above 0.",
        )
    needed = 2 * _WINDOWS_PER_SIDE
    if config.shuffle_probability and max(patch) < needed:
        yield Problem(
            where=f"{where}.shuffle_probability",
            what=f"windows have sides up to a tenth of the patch, and {max(patch)} voxels leave "
            "them a single voxel, in which nothing can be shuffled",
            fix=f"Set it to 0, or use a patch of {needed} voxels or more along some axis.",
        )


def rotation_on(
    config: RotationPrediction,
    *,
    where: str,
    patch: Triple,
    spacing_mm: Spacing,
    network: AnyNetwork,
    mirror_axes: tuple[int, ...],
) -> Iterator[Problem]:
    """A turned patch must look like one that was not turned, but for its content.

    Args:
        config: The task's section.
        where: Its key path.
        patch: Voxels along i, j, k.
        spacing_mm: Voxel size along i, j, k.
        network: The study's network.
        mirror_axes: Axes along which the task's patches are mirrored.
    """
    if not isinstance(network, WITH_ENCODER):
        yield Problem(
            where="network.kind",
            what=f"{config.kind} trains the encoder alone, and that of {network.kind} does not "
            "stand alone",
            fix="Choose unet, resenc_unet or resenc_preset, or a pretext task that trains the "
            "decoder too.",
        )
    turned = [axis for axis in range(3) if axis != config.axis]
    names = " and ".join("ijk"[axis] for axis in turned)
    if len({patch[axis] for axis in turned}) > 1:
        yield Problem(
            where="patches.size",
            what=f"{list(patch)} voxels do not keep their shape when {names} change places",
            fix=f"Give {names} the same number of voxels{_or_one_axis(config, where=where)}.",
        )
    first = spacing_mm[turned[0]]
    if not all(math.isclose(spacing_mm[axis], first, rel_tol=1e-3) for axis in turned):
        yield Problem(
            where="preprocessing.spacing_mm",
            what=f"voxels of {list(spacing_mm)} mm would tell how a patch was turned when {names} "
            "change places",
            fix=f"Give {names} the same spacing{_or_one_axis(config, where=where)}.",
        )
    if mirror_axes:
        yield Problem(
            where="augmentation.mirror_axes",
            what="a mirrored patch may look like one turned by 180 degrees, and "
            f"{config.kind} is to tell it",
            fix="Set it to [].",
        )


def volume_fusion_on(
    config: VolumeFusion, *, where: str, patch: Triple, network: AnyNetwork
) -> Iterator[Problem]:
    """Boxes must fit into the patch.

    Args:
        config: The task's section.
        where: Its key path.
        patch: Voxels along i, j, k.
        network: The study's network.
    """
    yield from _values_per_voxel(config.kind, network)
    fewest, most = config.boxes
    if fewest > most:
        yield Problem(
            where=f"{where}.boxes",
            what=f"the range runs from {fewest} down to {most}",
            fix="Write the smaller number first.",
        )
    largest = int(config.largest_side * min(patch))
    if config.smallest_side > largest:
        yield Problem(
            where=f"{where}.smallest_side",
            what=f"a box of {config.smallest_side} voxels a side is larger than the largest, "
            f"{config.largest_side:g} of a patch's {min(patch)} voxels",
            fix=f"Use {largest} or less, or a larger patch or largest_side."
            if largest > 1
            else "Use a larger patch or largest_side.",
        )


def _values_per_voxel(task: str, network: AnyNetwork) -> Iterator[Problem]:
    if network.predicts != "voxels":
        yield Problem(
            where="network.kind",
            what=f"{task} wants values of each voxel, and {network.kind} gives one answer for the "
            "volume",
            fix="Choose a network for segmentation, such as resenc_preset, unet or segresnet.",
        )


def _or_one_axis(config: RotationPrediction, *, where: str) -> str:
    return f", or set {where}.axis to turn about one axis only" if config.axis is None else ""
