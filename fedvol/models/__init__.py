"""Networks: built from a study, described for those without torch, turned into arrays and back."""

from fedvol.models.build import build_network, initial_network
from fedvol.models.state import (
    describe,
    describe_parts,
    load_arrays,
    require_architecture,
    to_arrays,
)
from fedvol.models.transfer import transfer
from fedvol.models.unet import UNet

__all__ = [
    "UNet",
    "build_network",
    "initial_network",
    "describe",
    "describe_parts",
    "load_arrays",
    "require_architecture",
    "to_arrays",
    "transfer",
]
