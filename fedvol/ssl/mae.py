"""Masked autoencoder with the study's own network: restore masked blocks of the patch.

Reference: He et al. (2022), arXiv:2111.06377, here with a convolutional network.
"""

from torch import nn

from fedvol.config.network import Network
from fedvol.config.pretext import MaskedAutoencoder
from fedvol.ssl.networks import dense_network
from fedvol.ssl.restoring import RestoringTask
from fedvol.types import Triple


def mae_task(config: MaskedAutoencoder) -> RestoringTask:
    """The network sees the patch with 0 in the masked blocks."""
    return RestoringTask(
        mask_ratio=config.mask_ratio,
        block=(config.block, config.block, config.block),
        restore=lambda net, patches: net(patches.shown)[0],
    )


def mae_network(network: Network, *, in_channels: int, patch: Triple, seed: int) -> nn.Module:
    """The study's network, which gives intensities; all but the head transfers by name.

    Args:
        network: The study's network.
        in_channels: Channels of the image.
        patch: Voxels of a patch along i, j, k.
        seed: Seed of the weights.
    """
    return dense_network(
        network, in_channels=in_channels, out_channels=in_channels, patch=patch, seed=seed
    )
