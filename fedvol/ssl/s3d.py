"""Masked autoencoder whose encoder sees visible blocks alone (SparkMAE, S3D).

References: Tian et al. (2023), arXiv:2301.03580 (SparK); Wald et al. (2024), arXiv:2410.23132
(S3D).
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedvol.config.levels import NormKind
from fedvol.config.network import Network, ResidualEncoderPreset, level_strides
from fedvol.config.network import ResidualEncoderUNet as ResidualEncoderUNetSection
from fedvol.config.network import UNet as UNetSection
from fedvol.config.pretext import SparkMAE
from fedvol.errors import NetworkConfigError
from fedvol.models.blocks import Features
from fedvol.models.build import seeded_draws
from fedvol.models.convolution import Conv3d
from fedvol.models.grid import require_grid
from fedvol.models.norms import build_norm
from fedvol.models.unet import UNet, decode
from fedvol.plan import TensorKind, derive_seed, digest_json
from fedvol.ssl.masks import Blocks
from fedvol.ssl.networks import dense_network
from fedvol.ssl.restoring import RestoringTask
from fedvol.ssl.sparse import Visible, apply_sparsely
from fedvol.types import Triple

_TOKEN_DEVIATION = 0.02


def s3d_task(config: SparkMAE) -> RestoringTask:
    """The network is told which blocks it may see."""
    return RestoringTask(
        mask_ratio=config.mask_ratio,
        block=(config.block, config.block, config.block),
        restore=lambda net, patches: net(patches.shown, ~patches.blocks),
    )


def s3d_network(
    config: SparkMAE, network: Network, *, in_channels: int, patch: Triple, seed: int
) -> nn.Module:
    """The study's U-Net with a sparse encoder; stem, encoder and decoder transfer by name.

    Args:
        config: Side of the masked blocks.
        network: The study's network.
        in_channels: Channels of the image.
        patch: Voxels of a patch along i, j, k.
        seed: Seed of the weights.

    Raises:
        NetworkConfigError: The network is no U-Net of this project's own.
    """
    if isinstance(network, ResidualEncoderPreset):
        network = network.explicit()
    net = dense_network(
        network, in_channels=in_channels, out_channels=in_channels, patch=patch, seed=seed
    )
    if not isinstance(network, UNetSection | ResidualEncoderUNetSection):
        raise NetworkConfigError(
            "network.kind",
            f"{network.kind} cannot be applied to visible voxels alone",
            'Use unet, resenc_unet or resenc_preset, or task "mae".',
        )
    assert isinstance(net, UNet)
    totals = accumulate(level_strides(network), _times)
    with seeded_draws(derive_seed(digest_json(str(seed)), "densify")):
        densify = [
            Densify(
                channels,
                norm=network.norm,
                has_token=not any(config.block % step for step in total),
                is_finest=level == 0,
            )
            for level, (channels, total) in enumerate(zip(network.features, totals, strict=True))
        ]
    return SparseUNet(net, densify=densify)


@final
class SparseUNet(nn.Module):
    """A U-Net whose encoder sees visible blocks alone; its decoder is dense.

    Args:
        net: Whose stem, encoder, decoder and finest head; they keep their names.
        densify: For each level of the encoder, finest first.
    """

    def __init__(self, net: UNet, *, densify: Sequence["Densify"]) -> None:
        super().__init__()
        self.stem = net.stem
        self.encoder = net.encoder
        self.decoder = net.decoder
        self.heads = net.heads
        self.densify = nn.ModuleList(densify)
        self._total_stride = net.total_stride

    def forward(self, x: Features, blocks: Blocks) -> Float[Tensor, "batch channel i j k"]:
        """Intensities of every voxel.

        Args:
            x: Patches; what they hold in masked blocks has no effect.
            blocks: Whether a block is visible; as many of each patch.

        Raises:
            NetworkConfigError: The grid cannot be halved as often as the network does.
        """
        visible = Visible(blocks)
        features = [
            densify(level, visible)
            for densify, level in zip(self.densify, self.encode(x, visible), strict=True)
        ]
        return decode(self.decoder, list(self.heads), features)[0]

    def encode(self, x: Features, visible: Visible) -> list[Features]:
        """Features of every level, finest first; 0 where they are masked."""
        require_grid(x, multiple_of=self._total_stride)
        x = apply_sparsely(self.stem, visible.keep(x), visible)
        features: list[Tensor] = []
        for level in self.encoder:
            x = apply_sparsely(level, x, visible)
            features.append(x)
        return features

    def parts(self) -> Mapping[str, TensorKind]:
        """Kind of the tensors below each module named, norm layers aside."""
        return {
            "stem": TensorKind.STEM,
            "encoder": TensorKind.ENCODER,
            "decoder": TensorKind.DECODER,
            "densify": TensorKind.HEAD,
            "heads": TensorKind.HEAD,
        }


@final
class Densify(nn.Module):
    """Makes sparse features dense: norm, a learned value where they are masked, convolution.

    Args:
        channels: Channels of the features.
        norm: Kind of norm layer, which sees visible positions alone.
        has_token: Whether anything is masked on this level's grid.
        is_finest: Whether the features stay as they are beside the learned value.
    """

    def __init__(self, channels: int, *, norm: NormKind, has_token: bool, is_finest: bool) -> None:
        super().__init__()
        self.norm = nn.Identity() if is_finest else build_norm(norm, num_channels=channels)
        self.token = nn.Parameter(torch.zeros(1, channels, 1, 1, 1)) if has_token else None
        if self.token is not None:
            nn.init.trunc_normal_(self.token, std=_TOKEN_DEVIATION)
        self.conv = nn.Identity() if is_finest else Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Features, visible: Visible) -> Features:
        """Dense features on the same grid."""
        x = apply_sparsely(self.norm, x, visible)
        if self.token is not None:
            x = visible.fill(x, self.token)
        return self.conv(x)


def _times(a: Triple, b: Triple) -> Triple:
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]
