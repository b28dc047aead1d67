"""The encoder of a network apart, for what is learned without its decoder or asked of it alone."""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fedvol.errors import NetworkConfigError
from fedvol.models.blocks import Features
from fedvol.models.dynunet import DynUNetAdapter
from fedvol.models.monai_adapter import MonaiAdapter
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


def pooled_features(net: nn.Module, x: Features) -> Float[Tensor, "batch feature"]:
    """What a network's encoder makes of each sample: its coarsest features, pooled.

    Args:
        net: The network, any that a study may ask for.
        x: Patches it can take.
    """
    match net:
        case UNet() | PCTNet():
            return pooled(encoder_of(net)(x)[-1])
        case DynUNetAdapter() | MonaiAdapter():
            given: list[Tensor] = []

            def keep(_module: nn.Module, _taken: tuple[Tensor, ...], features: Tensor) -> None:
                given.append(features)

            hook = net.deepest.register_forward_hook(keep)
            try:
                net(x)
            finally:
                hook.remove()
            return pooled(given[0])
        case _:
            raise TypeError(f"{type(net).__name__} is no network of a study")


def pooled(features: Tensor) -> Float[Tensor, "batch feature"]:
    """Means over the octants of a grid, (batch, feature, i, j, k), or over tokens.

    Over a whole grid the mean of what an instance norm gives is nearly the same for every patch.
    """
    if features.ndim == 3:
        return features.mean(1)
    return functional.adaptive_avg_pool3d(features, 2).flatten(1)
