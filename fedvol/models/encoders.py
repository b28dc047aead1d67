"""The encoder of a network apart, for what is learned without its decoder."""

from typing import cast

from torch import nn

from fedvol.errors import NetworkConfigError
from fedvol.models.pct_net import PCTNet, PCTNetEncoder
from fedvol.models.unet import UNet, UNetEncoder


def encoder_of(net: nn.Module) -> nn.Module:
    """A network's encoder and stem, under the names they have in it.

    It gives the features of every level as a tuple, finest first, and says what its modules are
    (`Parted`).

    Args:
        net: The network; its modules are shared with the encoder.

    Raises:
        NetworkConfigError: The network has no encoder that stands alone.
    """
    match net:
        case UNet():
            return UNetEncoder(net)
        case PCTNet():
            return PCTNetEncoder(net)
        case _:
            raise NetworkConfigError(
                "network.kind",
                f"{type(net).__name__} has no encoder that could be trained alone",
                "Use a U-Net or pct_net, or a pretext task that trains the decoder too.",
            )


def num_features(encoder: nn.Module) -> int:
    """Channels of the coarsest features of an encoder."""
    return cast(int, encoder.num_features)
