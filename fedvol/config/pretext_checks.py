"""What a pretext task asks of the network, the patches and the preparation of a study."""

import math
from collections.abc import Iterator
from itertools import accumulate

from fedvol.config.data import Spacing
from fedvol.config.network import (
    UNETR,
    Network,
    PCTNet,
    ResidualEncoderPreset,
    ResidualEncoderUNet,
    UNet,
    level_strides,
)
from fedvol.config.open_study import OpenNetwork, PlannedNetwork
from fedvol.config.patch_rule import patch_rule
from fedvol.config.pretext import (
    TOKEN_SIDE,
    MaskedAutoencoder,
    MaskedTokens,
    ModelsGenesis,
    RotationPrediction,
    SparkMAE,
    VoCo,
    VolumeFusion,
    num_masked,
)
from fedvol.errors import Problem
from fedvol.types import Triple

AnyNetwork = Network | OpenNetwork

WITH_ENCODER = UNet | ResidualEncoderUNet | ResidualEncoderPreset | PCTNet | PlannedNetwork
"""Networks whose encoder stands alone."""

SparseNetwork = UNet | ResidualEncoderUNet | ResidualEncoderPreset | PlannedNetwork
"""Networks whose encoder can be applied to visible voxels alone."""

_WINDOWS_PER_SIDE = 10
"""Models Genesis: sides of a patch per longest side of a window."""


def mae_on(
    config: MaskedAutoencoder, *, where: str, patch: Triple, network: AnyNetwork
) -> Iterator[Problem]:
    """Blocks must divide the patch, some of them masked and some not.

    Args:
        config: The task's section.
        where: Its key path.
        patch: Voxels along i, j, k.
        network: The study's network.
    """
    yield from _values_per_voxel(config.kind, network)
    yield from _blocks(config, where=where, patch=patch)


def mae_vit_on(
    config: MaskedTokens, *, where: str, patch: Triple, network: AnyNetwork
) -> Iterator[Problem]:
    """The network must have tokens, some of them masked and some not.

    Args:
        config: The task's section.
        where: Its key path.
        patch: Voxels along i, j, k; multiples of a token.
        network: The study's network.
    """
    if not isinstance(network, UNETR):
        yield Problem(
            where="network.kind",
            what=f"{config.kind} trains the vision transformer of unetr, and the network is "
            f"{network.kind}",
            fix='Choose unetr, or the pretext task "mae".',
        )
        return
    if config.decoder_width % network.num_heads:
        yield Problem(
            where=f"{where}.decoder_width",
            what=f"{config.decoder_width} values per token cannot be divided among the network's "
            f"{network.num_heads} heads",
            fix=f"Use a multiple of {network.num_heads}.",
        )
    yield from _some_of_both(config, side=TOKEN_SIDE, where=where, patch=patch)


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
            fix="Choose unet, resenc_unet, resenc_preset or pct_net, or a pretext task that trains "
            "the decoder too.",
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


def s3d_on(
    config: SparkMAE, *, where: str, patch: Triple, network: AnyNetwork
) -> Iterator[Problem]:
    """The network must be one of ours without batch norm, and blocks whole on its grids.

    Args:
        config: The task's section.
        where: Its key path.
        patch: Voxels along i, j, k.
        network: The study's network.
    """
    if not isinstance(network, SparseNetwork):
        yield Problem(
            where="network.kind",
            what=f"{config.kind} applies the encoder to visible blocks alone, which is not made "
            f"for {network.kind}",
            fix='Choose unet, resenc_unet or resenc_preset, or the pretext task "mae".',
        )
        return
    if network.norm == "batch":
        yield Problem(
            where="network.norm",
            what=f"{config.kind} takes the statistics of norm layers over the visible blocks of "
            "each patch, and batch norm takes them over the batch",
            fix='Use "instance" or "group".',
        )
    problems = [
        *_blocks(config, where=where, patch=patch),
        *_halved_blocks(config, where=where, network=network),
    ]
    yield from problems or _lone_voxel(config, where=where, patch=patch, network=network)


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


def voco_on(config: VoCo, *, where: str, patch: Triple, network: AnyNetwork) -> Iterator[Problem]:
    """The encoder must stand alone and take each crop of the grid.

    Args:
        config: The task's section.
        where: Its key path.
        patch: Voxels along i, j, k.
        network: The study's network.
    """
    if not isinstance(network, WITH_ENCODER):
        yield Problem(
            where="network.kind",
            what=f"{config.kind} trains the encoder alone, and that of {network.kind} does not "
            "stand alone",
            fix="Choose unet, resenc_unet, resenc_preset or pct_net, or a pretext task that trains "
            "the decoder too.",
        )
        return
    if math.prod(config.grid) == 1:
        yield Problem(
            where=f"{where}.grid",
            what="a grid of one crop has nothing to be told from it",
            fix="Use 2 or more along some axis.",
        )
    if isinstance(network, PlannedNetwork) and network.fixed_strides is None:
        return  # what planning makes is checked in its turn
    rule = patch_rule(network)
    fitting = True
    for axis, (side, count) in enumerate(zip(patch, config.grid, strict=True)):
        step = rule.multiple_of[axis]
        if side % (count * step):
            fitting = False
            yield Problem(
                where=f"{where}.grid[{axis}]",
                what=f"{side} voxels cannot be divided into {count} crops of whole multiples of "
                f"{step}, the product of the network's strides along {'ijk'[axis]}",
                fix=f"Use a patch of a multiple of {count * step} voxels there, or fewer crops.",
            )
    crop = [side // count for side, count in zip(patch, config.grid, strict=True)]
    coarsest = [side // step for side, step in zip(crop, rule.coarsest, strict=True)]
    if fitting and network.norm == "instance" and math.prod(coarsest) == 1:
        yield Problem(
            where=f"{where}.grid",
            what=f"in a crop of {crop} voxels the coarsest stage would see a single one, which "
            "instance norm makes 0",
            fix="Use a larger patch, fewer crops, another norm or fewer network stages.",
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


def _blocks(
    config: MaskedAutoencoder | SparkMAE, *, where: str, patch: Triple
) -> Iterator[Problem]:
    divided = [axis for axis, side in enumerate(patch) if side % config.block]
    for axis in divided:
        yield Problem(
            where=f"{where}.block",
            what=f"{patch[axis]} voxels along {'ijk'[axis]} are no whole blocks of {config.block}",
            fix=f"Use a divisor of {math.gcd(*patch)}, or a patch of whole blocks.",
        )
    if not divided:
        yield from _some_of_both(config, side=config.block, where=where, patch=patch)


def _some_of_both(
    config: MaskedAutoencoder | SparkMAE | MaskedTokens, *, side: int, where: str, patch: Triple
) -> Iterator[Problem]:
    count = math.prod(length // side for length in patch)
    if not 0 < num_masked(config.mask_ratio, num_blocks=count) < count:
        yield Problem(
            where=f"{where}.mask_ratio",
            what=f"of the patch's {count} cubes of {side} voxels a side, {config.mask_ratio:g} are "
            "masked, which is none or all of them",
            fix="Use a larger patch, or a share nearer to one half.",
        )


def _halved_blocks(config: SparkMAE, *, where: str, network: SparseNetwork) -> Iterator[Problem]:
    """A level finer than the blocks whose positions lie in two of them."""
    for level, total in enumerate(_total_strides(network)):
        if max(total) <= config.block and any(config.block % step for step in total):
            yield Problem(
                where=f"{where}.block",
                what=f"blocks of {config.block} voxels are no whole positions of network stage "
                f"{level}, which has one for {list(total)} voxels",
                fix=f"Use a multiple of {math.lcm(*total)}, or other network.strides.",
            )


def _lone_voxel(
    config: SparkMAE, *, where: str, patch: Triple, network: SparseNetwork
) -> Iterator[Problem]:
    """A level on which instance norm has a single visible position."""
    num_blocks = math.prod(side // config.block for side in patch)
    num_visible = num_blocks - num_masked(config.mask_ratio, num_blocks=num_blocks)
    for level, total in enumerate(_total_strides(network)):
        if any(config.block % step for step in total):
            return  # coarser than the blocks: everything counts as visible
        positions = num_visible * math.prod(config.block // step for step in total)
        if positions == 1 and network.norm == "instance":
            yield Problem(
                where=f"{where}.mask_ratio",
                what=f"network stage {level} would see a single voxel, which instance norm makes 0",
                fix="Use a larger patch, a smaller share, or another norm.",
            )


def _total_strides(network: SparseNetwork) -> list[Triple]:
    """Voxels of the patch per position of each level; none where planning has yet to say."""
    match network:
        case UNet() | ResidualEncoderUNet():
            strides = level_strides(network)
        case ResidualEncoderPreset():
            return _total_strides(network.explicit())
        case _:
            strides = network.fixed_strides or ()
    return list(accumulate(strides, lambda a, b: (a[0] * b[0], a[1] * b[1], a[2] * b[2])))
