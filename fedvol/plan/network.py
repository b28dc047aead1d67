"""What a study leaves open of its network, filled in."""

from collections.abc import Sequence
from typing import assert_never

from fedvol.config.levels import MAX_LEVELS
from fedvol.config.network import ResidualEncoderUNet, UNet
from fedvol.config.open_study import OpenResidualEncoderUNet, OpenUNet, PlannedNetwork
from fedvol.errors import PlanningError
from fedvol.plan.choices import by_axis
from fedvol.plan.topology import (
    Topology,
    blocks_of,
    features_of,
    kernels_of,
    plan_topology,
)


def network_topology(
    network: PlannedNetwork,
    sides: Sequence[int],
    *,
    spacing_mm: Sequence[float],
    is_exact: bool = False,
) -> Topology:
    """Strides and kernels: the study's, or those the rule gives for a patch.

    Args:
        network: What the study fixes of the network.
        sides: Voxels of the patch.
        spacing_mm: Voxel edges.
        is_exact: Whether the study fixes the patch, so that only even sides are halved.

    Raises:
        PlanningError: The patch cannot be halved even once.
    """
    strides = network.fixed_strides
    if strides is not None:
        kernels = kernels_of(strides, spacing_mm=spacing_mm)
        return Topology(strides=strides, kernels=kernels)
    lists = [network.kernels, getattr(network, "blocks_per_stage", None)]
    given = [len(entries) for entries in lists if entries is not None]
    topology = plan_topology(
        sides,
        spacing_mm=spacing_mm,
        max_levels=min([MAX_LEVELS, *given]),
        is_exact=is_exact,
    )
    if len(topology.strides) < 2:
        raise PlanningError(
            "network.features",
            f"{by_axis(sides)} voxels cannot be halved even once"
            + (" evenly" if is_exact else " (8 along an axis are needed, 12 if it is alone)"),
            "Fix the network, the patch or a finer spacing in the study.",
        )
    return topology


def close_network(network: PlannedNetwork, topology: Topology) -> UNet | ResidualEncoderUNet:
    """The network with every list that the study left open.

    Raises:
        PlanningError: The topology has another number of levels than the study's lists.
    """
    num_levels = len(topology.strides)
    is_default = network.features is not None  # the study's own network: nothing is planned of it
    values = {
        "features": network.features or features_of(num_levels),
        "strides": network.strides if is_default else topology.strides,
        "kernels": network.kernels if is_default else network.kernels or topology.kernels,
    }
    match network:
        case OpenResidualEncoderUNet():
            values["blocks_per_stage"] = network.blocks_per_stage or blocks_of(num_levels)
            kind = ResidualEncoderUNet
        case OpenUNet():
            kind = UNet
        case _:
            assert_never(network)
    for name, entries in values.items():
        if entries is not None and len(entries) != num_levels:
            raise PlanningError(
                f"network.{name}",
                f"has {len(entries)} entries, and the data allow {num_levels} stages",
                "Leave it out, or fix network.features and network.strides too.",
            )
    written = {name: getattr(network, name) for name in network.model_fields_set}
    given = {name: value for name, value in values.items() if value is not None}
    return kind.model_validate({**written, **given})
