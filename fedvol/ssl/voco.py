"""Volume contrast: how far a random crop overlaps each crop of a grid, told from likeness alone.

Without a teacher: the grid's crops are projected by the same network, and no gradient of the
prediction reaches them.

Reference: Wu et al. (2024), arXiv:2402.17300.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from fedvol.config.network import Network
from fedvol.config.pretext import VoCo
from fedvol.data.batch import UnlabelledBatch
from fedvol.models.blocks import Features
from fedvol.models.build import seeded_draws
from fedvol.models.state import Parted
from fedvol.plan import TensorKind, derive_seed, digest_json
from fedvol.ssl.judging import judging
from fedvol.ssl.masks import grid_of
from fedvol.ssl.networks import BODY, bare_encoder
from fedvol.ssl.task import PretextScore
from fedvol.types import Triple

Overlap = Float[Tensor, "batch crop base"]

_LEAST = 1e-6
_CONSTANTS = 101


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """Crops of each patch, all of one size.

    Attributes:
        bases: The grid's, those along k next to each other; they cover the patch.
        crops: Those that lie anywhere.
        starts: First voxel of each of these.
        overlap: Share of a crop's voxels that lie in each base; they sum to 1.
    """

    bases: Float[Tensor, "batch base channel i j k"]
    crops: Float[Tensor, "batch crop channel i j k"]
    starts: Int64[Tensor, "batch crop 3"]
    overlap: Overlap


@final
class VoCoTask:
    """Likeness of crops against their overlap; a `Pretext`.

    Args:
        config: The grid and the number of random crops.
    """

    def __init__(self, config: VoCo) -> None:
        self._config = config

    def transform(self, batch: UnlabelledBatch) -> Crops:
        """Cut the grid's crops and random ones out of each patch."""
        image, grid = batch.image, self._config.grid
        patch = grid_of(image)
        size = (patch[0] // grid[0], patch[1] // grid[1], patch[2] // grid[2])
        generator = batch.generator()
        drawn = [
            torch.randint(side - length + 1, (len(image), self._config.crops), generator=generator)
            for side, length in zip(patch, size, strict=True)
        ]
        starts = torch.stack(drawn, dim=2)
        a, b, c = grid
        bases = (
            image.unflatten(4, (c, -1)).unflatten(3, (b, -1)).unflatten(2, (a, -1))
            .permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(1, 3)
        )  # fmt: skip
        return Crops(
            bases=bases,
            crops=torch.stack([
                torch.stack([_cut(one, start=start, size=size) for start in row])
                for one, row in zip(image, starts.tolist(), strict=True)
            ]),
            starts=starts,
            overlap=overlaps(starts, grid=grid, size=size).to(image.device),
        )  # fmt: skip

    def loss(self, net: nn.Module, batch: UnlabelledBatch) -> Float[Tensor, ""]:
        """Crop the batch, project the crops, and compare their likeness with their overlap."""
        crops = self.transform(batch)
        bases, projected = _project(net, crops)
        similarity = likeness(projected, bases.detach())
        return prediction_loss(similarity, crops.overlap) + likeness_of_bases(bases)

    def score(self, net: nn.Module, batch: UnlabelledBatch) -> PretextScore:
        """Judge a network; the best constant is one likeness for all pairs of crop and base."""
        crops = self.transform(batch)
        with judging(net):
            bases, projected = _project(net, crops)
        loss = prediction_loss(likeness(projected, bases), crops.overlap)
        constants = [
            prediction_loss(torch.full_like(crops.overlap, float(value)), crops.overlap).item()
            for value in torch.linspace(0, 1, _CONSTANTS)
        ]
        return PretextScore(
            loss=(loss + likeness_of_bases(bases)).item(), trivial_loss=min(constants)
        )

    def picture(self, net: nn.Module, batch: UnlabelledBatch) -> None:
        """Nothing: the answer is a number for each pair of crops."""


def overlaps(starts: Int64[Tensor, "batch crop 3"], *, grid: Triple, size: Triple) -> Overlap:
    """Share of each crop that lies in each of the grid's crops, those along k next to each other.

    Args:
        starts: First voxel of each crop.
        grid: Crops of the grid along i, j, k.
        size: Voxels of every crop along i, j, k.
    """
    along = [
        (length - (starts[..., axis, None] - length * torch.arange(count)).abs()).clamp_min(0)
        / length
        for axis, (count, length) in enumerate(zip(grid, size, strict=True))
    ]
    return torch.einsum("nri,nrj,nrk->nrijk", *along).flatten(2)


def likeness(
    crops: Float[Tensor, "batch crop value"], bases: Float[Tensor, "batch base value"]
) -> Overlap:
    """Cosine of each pair within a patch, 0 where it is negative; in float32."""
    unit_crops = functional.normalize(crops.float(), dim=2).unsqueeze(2)
    unit_bases = functional.normalize(bases.float(), dim=2).unsqueeze(1)
    return (unit_crops * unit_bases).sum(3).relu()


def prediction_loss(similarity: Overlap, overlap: Overlap) -> Float[Tensor, ""]:
    """-log(1 - |overlap - similarity|), a mean weighted by overlap, and the mean square apart.

    Reference: equations 4 and 5.
    """
    distance = (overlap - similarity).abs()
    surprise = -(1 - distance).clamp_min(_LEAST).log()
    is_apart = overlap == 0
    apart = (similarity.square() * is_apart).sum() / is_apart.sum().clamp_min(1)
    return (overlap * surprise).sum() / overlap.sum() + apart


def likeness_of_bases(bases: Float[Tensor, "batch base value"]) -> Float[Tensor, ""]:
    """Mean likeness of two different crops of a patch's grid, which should have none."""
    num_bases = bases.shape[1]
    others = ~torch.eye(num_bases, dtype=torch.bool, device=bases.device)
    return (likeness(bases, bases) * others).sum() / (len(bases) * num_bases * (num_bases - 1))


def voco_network(
    config: VoCo, network: Network, *, in_channels: int, patch: Triple, seed: int
) -> nn.Module:
    """The study's encoder before a projector.

    Args:
        config: Width of the projector, and the grid.
        network: The study's network.
        in_channels: Channels of the image.
        patch: Voxels of a patch along i, j, k.
        seed: Seed of the weights.

    Raises:
        NetworkConfigError: The network has no encoder that stands alone.
    """
    size = tuple(side // count for side, count in zip(patch, config.grid, strict=True))
    encoder = bare_encoder(network, in_channels=in_channels, patch=patch, seed=seed)
    num_features = _num_features(encoder, shape=(1, in_channels, *size))
    with seeded_draws(derive_seed(digest_json(str(seed)), "projector")):
        return Projected(encoder, num_features=num_features, width=config.projector_width)


@final
class Projected(nn.Module):
    """An encoder whose pooled features, of all levels, go through a projector.

    Args:
        encoder: Gives features of every level; it transfers, less `BODY`.
        num_features: Features of all levels together.
        width: Of the projector's three layers.
    """

    def __init__(self, encoder: nn.Module, *, num_features: int, width: int) -> None:
        super().__init__()
        self.body = encoder
        self.projector = nn.Sequential(
            nn.Linear(num_features, width),
            nn.LayerNorm(width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.ReLU(),
            nn.Linear(width, width),
        )

    def forward(self, x: Features) -> Float[Tensor, "batch value"]:
        """The projection of each sample."""
        return self.projector(torch.cat([level.mean((2, 3, 4)) for level in self.body(x)], dim=1))

    def parts(self) -> Mapping[str, TensorKind]:
        """Kind of the tensors below each module named, norm layers aside."""
        body = cast(Parted, self.body).parts()
        return {**{BODY + name: kind for name, kind in body.items()}, "projector": TensorKind.HEAD}


def _num_features(encoder: nn.Module, *, shape: tuple[int, ...]) -> int:
    """Features of all levels together, from a pass without numbers."""
    shapes = {name: tensor.to("meta") for name, tensor in encoder.state_dict().items()}
    with judging(encoder):
        levels = torch.func.functional_call(encoder, shapes, torch.empty(shape, device="meta"))
    return sum(level.shape[1] for level in levels)


def _project(
    net: nn.Module, crops: Crops
) -> tuple[Float[Tensor, "batch base value"], Float[Tensor, "batch crop value"]]:
    """Projections of bases and crops, from one pass over all of them."""
    together = torch.cat((crops.bases, crops.crops), dim=1)
    projected = net(together.flatten(0, 1)).unflatten(0, together.shape[:2])
    num_bases = crops.bases.shape[1]
    return projected[:, :num_bases], projected[:, num_bases:]


def _cut(
    image: Float[Tensor, "channel i j k"], *, start: list[int], size: Triple
) -> Float[Tensor, "channel i2 j2 k2"]:
    (i, j, k), (a, b, c) = start, size
    return image[:, i : i + a, j : j + b, k : k + c]
