"""Masked autoencoder with a vision transformer, which sees visible tokens alone.

Reference: He et al. (2022), arXiv:2111.06377, with the blocks of MONAI's UNETR.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fedvol.config.network import UNETR, Network
from fedvol.config.pretext import TOKEN_SIDE, MaskedTokens
from fedvol.errors import NetworkConfigError
from fedvol.models import build_network
from fedvol.models.blocks import Features
from fedvol.models.build import seeded_draws
from fedvol.plan import TensorKind, derive_seed, digest_json
from fedvol.ssl.masks import Blocks
from fedvol.ssl.networks import BODY
from fedvol.ssl.restoring import RestoringTask
from fedvol.types import Triple

if TYPE_CHECKING:
    from monai.networks.nets.vit import ViT

Tokens = Float[Tensor, "batch token value"]

_ENCODER = "net.vit"
"""Where `unetr` has its transformer."""
_DEVIATION = 0.02
_MLP_FACTOR = 4


def mae_vit_task(config: MaskedTokens) -> RestoringTask:
    """The network is told which tokens it may see."""
    return RestoringTask(
        mask_ratio=config.mask_ratio,
        block=(TOKEN_SIDE, TOKEN_SIDE, TOKEN_SIDE),
        restore=lambda net, patches: net(patches.shown, visible_tokens(patches.blocks)),
    )


def visible_tokens(masked: Blocks) -> Int64[Tensor, "batch visible"]:
    """Places of the tokens that are not masked, in order; as many of each patch."""
    flat = masked.flatten(1)
    return flat.logical_not().nonzero()[:, 1].view(len(flat), -1)


def mae_vit_network(
    config: MaskedTokens, network: Network, *, in_channels: int, patch: Triple, seed: int
) -> nn.Module:
    """The transformer of the study's `unetr` before a decoder of its own.

    The encoder's tensors transfer under `name_in_unetr`.

    Args:
        config: Size of the decoder.
        network: The study's network.
        in_channels: Channels of the image.
        patch: Voxels of a patch along i, j, k.
        seed: Seed of the weights.

    Raises:
        NetworkConfigError: The network is another kind than `unetr`.
    """
    if not isinstance(network, UNETR):
        raise NetworkConfigError(
            "network.kind",
            f"{network.kind} is no vision transformer of equal tokens",
            'Use unetr, or task "mae".',
        )
    whole = build_network(network, in_channels=in_channels, num_classes=2, patch=patch, seed=seed)
    with seeded_draws(derive_seed(digest_json(str(seed)), "decoder")):
        return TokenAutoencoder(
            cast("ViT", whole.get_submodule(_ENCODER)),
            config=config,
            num_heads=network.num_heads,
            in_channels=in_channels,
            grid=(patch[0] // TOKEN_SIDE, patch[1] // TOKEN_SIDE, patch[2] // TOKEN_SIDE),
        )


def name_in_unetr(name: str) -> str | None:
    """Name in the network of kind `unetr` of an autoencoder's tensor; None for the decoder's."""
    return name.removeprefix(BODY) if name.startswith(BODY) else None


@final
class TokenAutoencoder(nn.Module):
    """A vision transformer over visible tokens, and a smaller one that restores all of them.

    Args:
        vit: Embeds and encodes tokens; it is held under the names it has in `unetr`.
        config: Size of the decoder.
        num_heads: Attention heads of encoder and decoder.
        in_channels: Channels of the image.
        grid: Tokens along i, j, k.
    """

    def __init__(
        self, vit: "ViT", *, config: MaskedTokens, num_heads: int, in_channels: int, grid: Triple
    ) -> None:
        from monai.networks.blocks.transformerblock import TransformerBlock

        super().__init__()
        self.body = nn.ModuleDict({"net": nn.ModuleDict({"vit": vit})})
        width, num_tokens = config.decoder_width, grid[0] * grid[1] * grid[2]
        self.embed = nn.Linear(vit.norm.normalized_shape[0], width)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.zeros(1, num_tokens, width))
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(width, _MLP_FACTOR * width, num_heads)
                for _ in range(config.decoder_layers)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.restore = nn.Linear(width, in_channels * TOKEN_SIDE**3)
        for block in self.blocks:
            block.norm_cross_attn = nn.Identity()  # there is no cross-attention: it never learns
        for drawn in (self.token, self.places):
            nn.init.trunc_normal_(drawn, std=_DEVIATION)
        self._grid = grid

    def forward(
        self, x: Features, visible: Int64[Tensor, "batch visible"]
    ) -> Float[Tensor, "batch channel i j k"]:
        """Intensities of every voxel.

        Args:
            x: Patches; what they hold in masked tokens has no effect.
            visible: Places of the tokens that are seen, which are numbered along k first.
        """
        seen = self.embed(self.encode(x, visible))
        masked = self.token.to(seen.dtype).expand(len(x), self.places.shape[1], -1)
        tokens = masked.scatter(1, _over_values(visible, width=seen.shape[2]), seen)
        restored = self.restore(self.norm(self.blocks(tokens + self.places)))
        return lay_out(restored, grid=self._grid)

    def encode(self, x: Features, visible: Int64[Tensor, "batch visible"]) -> Tokens:
        """Encoded visible tokens, in the order asked for; arguments as for `forward`."""
        vit = cast("ViT", self.body.get_submodule(_ENCODER))
        tokens: Tokens = vit.patch_embedding(x)
        tokens = tokens.gather(1, _over_values(visible, width=tokens.shape[2]))
        for block in vit.blocks:
            tokens = block(tokens)
        return vit.norm(tokens)

    def parts(self) -> Mapping[str, TensorKind]:
        """Kind of the tensors below each module named, norm layers aside."""
        ends = ("embed", "token", "places", "blocks", "norm", "restore")
        return {
            "body": TensorKind.ENCODER,
            f"{BODY}{_ENCODER}.patch_embedding.patch_embeddings": TensorKind.STEM,
            **dict.fromkeys(ends, TensorKind.HEAD),
        }


def _over_values(
    places: Int64[Tensor, "batch visible"], *, width: int
) -> Int64[Tensor, "batch visible value"]:
    return places.unsqueeze(2).expand(-1, -1, width)


def lay_out(tokens: Tokens, *, grid: Triple) -> Float[Tensor, "batch channel i j k"]:
    """Lay tokens, whose values are (channel, i, j, k), beside each other."""
    blocks = tokens.unflatten(1, grid).unflatten(4, (-1, TOKEN_SIDE, TOKEN_SIDE, TOKEN_SIDE))
    beside = blocks.permute(0, 4, 1, 5, 2, 6, 3, 7)  # batch channel a i b j c k
    return beside.flatten(6, 7).flatten(4, 5).flatten(2, 3)
