"""What the keys of a network must be to each other, and to the rest of the study."""

import math
from collections.abc import Iterator
from typing import cast

from fedvol.config.data import MIN_PATCH_SIDE, DataRequirement, Patches
from fedvol.config.learning import Task
from fedvol.config.levels import Kernel, Strides
from fedvol.config.network import (
    UNETR,
    AttentionUNet,
    DynUNet,
    ListedNetwork,
    Network,
    PCTNet,
    ResidualEncoderPreset,
    ResidualUNet,
    SegResNet,
    VNet,
)
from fedvol.config.open_study import OpenNetwork, OpenPatches, PlannedNetwork
from fedvol.config.patch_rule import PatchRule, patch_rule
from fedvol.errors import Problem

SEGRESNET_GROUPS = 8
"""Groups of its group norm (Myronenko 2018)."""
_VNET_WIDTH = 16

AnyNetwork = Network | OpenNetwork
_Listed = ListedNetwork | PlannedNetwork


def network_alone(network: AnyNetwork) -> Iterator[Problem]:
    """Keys of the network that contradict each other."""
    if isinstance(network, _Listed):
        yield from _levels(network)
        return
    match network:
        case ResidualUNet() | AttentionUNet():
            strides, steps = network.strides, len(network.features) - 1
            if strides is not None and len(strides) != steps:
                yield Problem(
                    where="network.strides",
                    what=f"{len(strides)} entries for {steps} steps between stages",
                    fix=f"Give one entry less than network.features has, {steps} in all.",
                )
        case SegResNet(norm="group", features=width) if width % SEGRESNET_GROUPS:
            yield Problem(
                where="network.features",
                what=f"{width} channels cannot be divided into the {SEGRESNET_GROUPS} groups of "
                "the group norm",
                fix=f'Use a multiple of {SEGRESNET_GROUPS}, or another norm than "group".',
            )
        case UNETR(hidden_size=size, num_heads=heads) if size % heads:
            yield Problem(
                where="network.hidden_size",
                what=f"{size} values per token cannot be divided among {heads} heads",
                fix=f"Use a multiple of {heads}, or another network.num_heads.",
            )
        case PCTNet():
            yield from _heads(network)
        case _:
            pass


def network_on_patches(network: AnyNetwork, patches: Patches | OpenPatches) -> Iterator[Problem]:
    """Patches and batches that the network cannot take."""
    if network.norm == "batch" and patches.batch_size == 1:
        yield Problem(
            where="network.norm",
            what="batch norm cannot learn its statistics from batches of one patch",
            fix='Raise patches.batch_size, or use "instance" or "group".',
        )
    if isinstance(network, _Listed) and any(_lengths(network)):
        return  # a rule made of lists that do not fit would mislead
    if isinstance(network, ResidualUNet | AttentionUNet) and any(network_alone(network)):
        return
    if isinstance(network, PlannedNetwork) and network.fixed_strides is None:
        return  # planning makes a network that fits
    if patches.size is None:
        if not isinstance(network, PlannedNetwork | ResidualEncoderPreset):
            yield Problem(
                where="patches.size",
                what=f"no patch can be planned for {network.kind}",
                fix="Write patches.size and patches.batch_size, or choose unet, resenc_unet or "
                "resenc_preset.",
            )
        return
    if patches.batch_size is None and not isinstance(
        network, PlannedNetwork | ResidualEncoderPreset
    ):
        yield Problem(
            where="patches.batch_size",
            what=f"no batch size can be planned for {network.kind}",
            fix="Write patches.batch_size.",
        )
    rule = patch_rule(network)
    fitting = True
    for axis, side in enumerate(patches.size):
        for problem in _side(side, axis=axis, rule=rule, network=network):
            fitting = False
            yield problem
    grid = [math.ceil(n / step) for n, step in zip(patches.size, rule.coarsest, strict=True)]
    if fitting and network.norm == "instance" and math.prod(grid) == 1:
        yield Problem(
            where="patches.size",
            what="the coarsest stage would see a single voxel, which instance norm makes 0",
            fix="Use a larger patch, another norm, fewer network stages or smaller strides.",
        )


def network_on_data(network: AnyNetwork, data: DataRequirement) -> Iterator[Problem]:
    """Channels that the network cannot take."""
    yield from network_on_channels(network, len(data.channels))


def network_on_channels(network: AnyNetwork, num_channels: int) -> Iterator[Problem]:
    """The same, of a number of channels."""
    if isinstance(network, VNet) and _VNET_WIDTH % num_channels:
        yield Problem(
            where="network.kind",
            what=f"vnet adds copies of the image to its {_VNET_WIDTH} features, and {num_channels} "
            "channels do not divide them",
            fix="Use 1, 2, 4, 8 or 16 channels, or another network.",
        )


def network_on_task(network: AnyNetwork, task: Task) -> Iterator[Problem]:
    """A network for another kind of task."""
    if network.predicts != task.predicts:
        wanted = {"voxels": "classes of each voxel", "volume": "classes of the whole volume"}
        yield Problem(
            where="network.kind",
            what=f"{network.kind} gives {wanted[network.predicts]}, and the task {task.kind} "
            f"needs {wanted[task.predicts]}",
            fix=_OTHERS[task.predicts],
        )


_OTHERS = {
    "voxels": "Choose a network for segmentation, such as resenc_preset, unet or segresnet.",
    "volume": "Choose a network for classification: resnet3d or densenet3d.",
}


def _levels(network: _Listed) -> Iterator[Problem]:
    yield from _lengths(network)
    yield from _strides(network.strides or (), largest=2 if isinstance(network, DynUNet) else 4)
    yield from _kernels(network.kernels or ())


def _heads(network: PCTNet) -> Iterator[Problem]:
    first = len(network.features) - len(network.num_heads)
    for index, heads in enumerate(network.num_heads):
        channels = network.features[first + index]
        if channels % heads:
            yield Problem(
                where=f"network.num_heads[{index}]",
                what=f"{heads} heads cannot share the {channels} channels of "
                f"network.features[{first + index}]",
                fix="Use a number that divides them, or other channels.",
            )


def _lengths(network: _Listed) -> Iterator[Problem]:
    lengths: dict[str, int] = {}
    for name in ("features", "strides", "kernels", "blocks_per_stage"):
        entries = cast("tuple[object, ...] | None", getattr(network, name, None))
        if entries is not None:
            lengths[name] = len(entries)
    first, num_levels = next(iter(lengths.items()), ("features", 0))
    for name, length in lengths.items():
        if length != num_levels:
            yield Problem(
                where=f"network.{name}",
                what=f"{length} entries for {num_levels} stages",
                fix=f"Give one entry for each of network.{first}, {num_levels} in all.",
            )


def _strides(strides: tuple[Strides, ...], *, largest: int) -> Iterator[Problem]:
    if strides and strides[0] != (1, 1, 1):
        yield Problem(
            where="network.strides[0]",
            what="the first stage must see the patch at full resolution",
            fix="Use [1, 1, 1] there and shrink from the second stage on.",
        )
    for index, stride in enumerate(strides):
        if max(stride) > largest:
            yield Problem(
                where=f"network.strides[{index}]",
                what=f"{list(stride)} has a step above {largest}, which dynunet cannot take",
                fix="Use 1 or 2 along each axis, or kind unet.",
            )


def _kernels(kernels: tuple[Kernel, ...]) -> Iterator[Problem]:
    for index, kernel in enumerate(kernels):
        if any(side % 2 == 0 for side in kernel):
            yield Problem(
                where=f"network.kernels[{index}]",
                what=f"{list(kernel)} has an even side, which would shift the image",
                fix="Use odd sides: 1, 3, 5 or 7.",
            )


def _side(side: int, *, axis: int, rule: PatchRule, network: AnyNetwork) -> Iterator[Problem]:
    step = rule.multiple_of[axis]
    where = f"patches.size[{axis}]"
    if side % step:
        is_unetr = isinstance(network, UNETR)
        reason = "the side of a token" if is_unetr else "the product of the network's strides"
        lower = side // step * step
        nearest = [f"{n}" for n in (lower, lower + step) if n >= max(rule.least, MIN_PATCH_SIDE)]
        fewer = ", or fewer network stages" if _has_levels(network) else ""
        yield Problem(
            where=where,
            what=f"{side} voxels cannot be divided by {step}, {reason} along {'ijk'[axis]}",
            fix=f"Use {' or '.join(nearest)}{fewer}.",
        )
    elif side < rule.least:
        yield Problem(
            where=where,
            what=f"{side} voxels are too few for {network.kind}",
            fix=f"Use at least {rule.least}.",
        )


def _has_levels(network: AnyNetwork) -> bool:
    return isinstance(network, _Listed | ResidualUNet | AttentionUNet | SegResNet)
