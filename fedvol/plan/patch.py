"""Patch, network and batch together, as large as the memory of a site allows: nnU-Net's rules.

Reference: Isensee et al. (2021), doi:10.1038/s41592-020-01008-z, supplementary note 2.
"""

import math
from dataclasses import dataclass
from typing import Final

from fedvol.config.data import MAX_BATCH, MAX_PATCH_SIDE, MIN_PATCH_SIDE
from fedvol.config.network import ResidualEncoderUNet, UNet
from fedvol.config.open_study import PlannedNetwork
from fedvol.errors import PlanningError
from fedvol.plan.choices import by_axis, plain_number
from fedvol.plan.memory import GIB, Precision, training_bytes
from fedvol.plan.network import close_network, network_topology
from fedvol.plan.topology import Topology
from fedvol.types import Triple

SIZE: Final = "patches.size"
BATCH: Final = "patches.batch_size"
_START_SIDE: Final = 256
"""The first patch has at most as many voxels as a cube of this side."""

MIN_BATCH: Final = 2
_MAX_SHARE: Final = 0.05
"""Largest share of all training voxels in one batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """What patches are cut from, and what a network makes of them.

    Attributes:
        spacing_mm: Voxel edges after resampling.
        median: Voxels of the median volume at that spacing.
        cases: Training cases of all sites.
        num_channels: Image channels.
        num_classes: Classes, background included.
        precision: Arithmetic of their training.
    """

    spacing_mm: tuple[float, float, float]
    median: Triple
    cases: int
    num_channels: int
    num_classes: int
    precision: Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A patch with the network for it.

    Attributes:
        patch: Voxels along i, j, k.
        network: Features, strides, kernels and blocks, all of one length.
        multiple_of: What the network's strides need of each side.
        start: The patch before it was shrunk to the memory.
        shrunk: Steps by which it was.
        size_bytes: Estimated memory of a training step with the batch it was fitted for.
        batch_size: That batch.
    """

    patch: Triple
    network: UNet | ResidualEncoderUNet
    multiple_of: Triple
    start: Triple
    shrunk: int
    size_bytes: int
    batch_size: int


def fit_patch(
    open_network: PlannedNetwork,
    *,
    volumes: Volumes,
    patch: Triple | None,
    batch_size: int | None,
    memory_gib: float,
) -> Fitted:
    """The largest patch up to the median volume whose training step fits into the memory.

    Args:
        open_network: What the study fixes of the network.
        volumes: What patches are cut from.
        patch: The study's patch, where it fixes one; the network is then made for it.
        batch_size: The study's batch size; None: as many as are needed at least.
        memory_gib: Memory of a site.

    Raises:
        PlanningError: No patch fits, or the volumes are too small for a network of two levels.
    """
    batch = batch_size or MIN_BATCH
    if patch is not None:
        topology = network_topology(
            open_network, patch, spacing_mm=volumes.spacing_mm, is_exact=True
        )
        network = close_network(open_network, topology)
        size = _bytes(network, patch=patch, batch_size=batch, volumes=volumes)
        return Fitted(
            patch=patch,
            network=network,
            multiple_of=topology.factor,
            start=patch,
            shrunk=0,
            size_bytes=size,
            batch_size=batch,
        )
    sides = _start(volumes)
    topology = network_topology(open_network, sides, spacing_mm=volumes.spacing_mm)
    start = found = _padded(sides, topology)
    shrunk = 0
    while True:
        network = close_network(open_network, topology)
        size = _bytes(network, patch=found, batch_size=batch, volumes=volumes)
        if size <= memory_gib * GIB:
            return Fitted(
                patch=found,
                network=network,
                multiple_of=topology.factor,
                start=start,
                shrunk=shrunk,
                size_bytes=size,
                batch_size=batch,
            )
        smaller = _shrunk(open_network, found, topology, volumes=volumes)
        if smaller is None:
            raise PlanningError(
                SIZE,
                f"even the smallest patch, {by_axis(found)} voxels, needs about "
                f"{plain_number(size / GIB, decimals=1)} GiB for a batch of {batch}, and a site "
                f"has {memory_gib:g} GiB",
                "Raise planning.memory_gib, or fix a smaller network or batch.",
            )
        topology, found = smaller
        shrunk += 1


def fit_batch(
    network: UNet | ResidualEncoderUNet, *, patch: Triple, volumes: Volumes, memory_gib: float
) -> tuple[int, str]:
    """As many patches as the memory holds, at most 5 % of all voxels, at least two; and why.

    Raises:
        PlanningError: Not even two patches fit.
    """
    held = MIN_BATCH
    size = _bytes(network, patch=patch, batch_size=held, volumes=volumes)
    if size > memory_gib * GIB:
        raise PlanningError(
            BATCH,
            f"a batch of {held} patches of {by_axis(patch)} voxels needs about "
            f"{plain_number(size / GIB, decimals=1)} GiB, and a site has {memory_gib:g} GiB",
            "Raise planning.memory_gib, fix a smaller patch or network, or fix the batch size.",
        )
    while held < MAX_BATCH:
        larger = _bytes(network, patch=patch, batch_size=held + 1, volumes=volumes)
        if larger > memory_gib * GIB:
            break
        held, size = held + 1, larger
    share = _MAX_SHARE * math.prod(volumes.median) * volumes.cases / math.prod(patch)
    few = max(MIN_BATCH, round(share))
    more = " or more" if held == MAX_BATCH else ""
    reason = (
        f"{memory_gib:g} GiB hold {held} patches{more} (about "
        f"{plain_number(size / GIB, decimals=1)} GiB)"
    )
    if few < held:
        reason += (
            f"; a batch may hold at most {_MAX_SHARE:.0%} of all training voxels, which is "
            f"{plain_number(share, decimals=1)} patches, and at least {MIN_BATCH}"
        ).replace("%", " %")
    return min(held, few), reason


def _start(volumes: Volumes) -> Triple:
    """A cube in millimetres of 256^3 voxels, cut to the median volume."""
    density = [1 / edge for edge in volumes.spacing_mm]
    scale = _START_SIDE / math.prod(density) ** (1 / 3)
    i, j, k = (
        min(max(1, round(scale * per_mm)), side, MAX_PATCH_SIDE)
        for per_mm, side in zip(density, volumes.median, strict=True)
    )
    return i, j, k


def _padded(sides: Triple, topology: Topology) -> Triple:
    """Up to the next multiple of what the strides need, and to what a patch has at least."""
    i, j, k = (
        -(-max(side, MIN_PATCH_SIDE) // step) * step
        for side, step in zip(sides, topology.factor, strict=True)
    )
    return i, j, k


def _shrunk(
    network: PlannedNetwork, patch: Triple, topology: Topology, *, volumes: Volumes
) -> tuple[Topology, Triple] | None:
    """The next smaller patch: less along the axis where it is largest beside the median volume."""
    able = [axis for axis in range(3) if patch[axis] - topology.factor[axis] >= MIN_PATCH_SIDE]
    if not able:
        return None
    axis = max(able, key=lambda axis: (patch[axis] / volumes.median[axis], patch[axis]))
    # The coarsest level may go with the step; then a smaller step is enough.
    less = _less(patch, axis, topology.factor[axis])
    step = network_topology(network, less, spacing_mm=volumes.spacing_mm).factor[axis]
    while (less := _less(patch, axis, step))[axis] >= MIN_PATCH_SIDE:
        found = network_topology(network, less, spacing_mm=volumes.spacing_mm)
        if math.prod(padded := _padded(less, found)) < math.prod(patch):
            return found, padded
        step += 1
    return None


def _less(patch: Triple, axis: int, step: int) -> Triple:
    i, j, k = (side - step * (axis == index) for index, side in enumerate(patch))
    return i, j, k


def _bytes(
    network: UNet | ResidualEncoderUNet, *, patch: Triple, batch_size: int, volumes: Volumes
) -> int:
    return training_bytes(
        network,
        patch=patch,
        batch_size=batch_size,
        num_channels=volumes.num_channels,
        num_classes=volumes.num_classes,
        precision=volumes.precision,
    )
