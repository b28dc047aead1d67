"""Networks of pretext tasks: a study's network with an end of the task's own."""

from collections.abc import Mapping
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from fedvol.config.network import Network
from fedvol.models import build_network
from fedvol.models.blocks import Features
from fedvol.models.encoders import encoder_of
from fedvol.models.state import Parted
from fedvol.plan import TensorKind
from fedvol.types import Triple

BODY = "body."
"""Before the names of an encoder's tensors, where a task trains the encoder alone."""


def dense_network(
    config: Network, *, in_channels: int, out_channels: int, patch: Triple, seed: int
) -> nn.Module:
    """The study's network, giving other values per voxel; all but the head transfers by name.

    It has one output: coarser ones would be heads that learn nothing.

    Args:
        config: The study's network.
        in_channels: Channels of the image.
        out_channels: Values per voxel.
        patch: Voxels of a patch along i, j, k.
        seed: Seed of the weights.
    """
    if "deep_supervision" in type(config).model_fields:
        config = config.model_copy(update={"deep_supervision": False})
    return build_network(
        config, in_channels=in_channels, num_classes=out_channels, patch=patch, seed=seed
    )


class EncoderNetwork(nn.Module):
    """A study's encoder before a head of the task's own; the encoder transfers, less `BODY`.

    Args:
        encoder: Gives features of every level, finest first (`encoder_of`).
        head: Takes the coarsest features averaged over the grid, (batch, feature).
    """

    def __init__(self, encoder: nn.Module, *, head: nn.Module) -> None:
        super().__init__()
        self.body = encoder
        self.head = head

    def forward(self, x: Features) -> Float[Tensor, "batch out"]:
        """The head's answer for each sample."""
        return self.head(self.body(x)[-1].mean((2, 3, 4)))

    def parts(self) -> Mapping[str, TensorKind]:
        """Kind of the tensors below each module named, norm layers aside."""
        body = cast(Parted, self.body).parts()
        return {**{BODY + name: kind for name, kind in body.items()}, "head": TensorKind.HEAD}


def bare_encoder(config: Network, *, in_channels: int, patch: Triple, seed: int) -> nn.Module:
    """The encoder of a study's network, its weights drawn from a seed.

    Raises:
        NetworkConfigError: The network has no encoder that stands alone.
    """
    net = build_network(config, in_channels=in_channels, num_classes=2, patch=patch, seed=seed)
    return encoder_of(net)
