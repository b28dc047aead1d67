"""Rotation prediction: say by how many quarter turns a patch was rotated.

Reference: Gidaris et al. (2018), arXiv:1803.07728; in 3D.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn
from torch.nn import functional

from fedvol.config.network import Network
from fedvol.config.pretext import RotationPrediction
from fedvol.data.batch import UnlabelledBatch
from fedvol.models.encoders import num_features
from fedvol.ssl.judging import judging
from fedvol.ssl.networks import EncoderNetwork, bare_encoder
from fedvol.ssl.task import PretextScore
from fedvol.types import Triple

_TURNS = 3
"""Quarter turns about one axis that change anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """Patches, rotated.

    Attributes:
        image: What the network sees.
        answer: Index of each patch's turn among the task's (`RotationTask.turns`).
    """

    image: Float[Tensor, "batch channel i j k"]
    answer: Int64[Tensor, " batch"]


@final
class RotationTask:
    """Quarter turns as classes, each as likely; a `Pretext`.

    Args:
        config: The task's section.

    Attributes:
        turns: Axis, and number of right-handed quarter turns about it, of each class; the first
            leaves the patch as it is.
    """

    def __init__(self, config: RotationPrediction) -> None:
        axes = range(3) if config.axis is None else (config.axis,)
        self.turns = ((axes[0], 0), *((axis, n) for axis in axes for n in range(1, _TURNS + 1)))

    def transform(self, batch: UnlabelledBatch) -> Rotation:
        """Rotate each patch by a turn drawn uniformly.

        Raises:
            ValueError: Sides that change places differ.
        """
        answer = torch.randint(len(self.turns), (len(batch.image),), generator=batch.generator())
        image = torch.empty_like(batch.image)
        for n, (patch, index) in enumerate(zip(batch.image, answer.tolist(), strict=True)):
            axis, turns = self.turns[index]
            image[n] = rotate(patch, axis=axis, turns=turns)
        return Rotation(image=image, answer=answer.to(image.device))

    def loss(self, net: nn.Module, batch: UnlabelledBatch) -> Float[Tensor, ""]:
        """Cross-entropy over the batch, in float32."""
        rotated = self.transform(batch)
        return functional.cross_entropy(net(rotated.image).float(), rotated.answer)

    def score(self, net: nn.Module, batch: UnlabelledBatch) -> PretextScore:
        """Loss, beside that of the same chance for every class, whatever this batch drew."""
        with judging(net):
            loss = self.loss(net, batch)
        return PretextScore(loss=loss.item(), trivial_loss=math.log(len(self.turns)))

    def picture(self, net: nn.Module, batch: UnlabelledBatch) -> None:
        """Nothing to see: the answer is one class."""
        del net, batch


def rotation_network(
    config: RotationPrediction, network: Network, *, in_channels: int, patch: Triple, seed: int
) -> nn.Module:
    """The encoder of the study's network before a linear layer over its averaged features.

    Args:
        config: The task's section.
        network: The study's network.
        in_channels: Channels of the image.
        patch: Voxels of a patch along i, j, k.
        seed: Seed of the weights.

    Raises:
        NetworkConfigError: The network has no encoder that stands alone.
    """
    encoder = bare_encoder(network, in_channels=in_channels, patch=patch, seed=seed)
    num_classes = len(RotationTask(config).turns)
    # Made on `meta`, it leaves the global random state alone.
    head = nn.Linear(num_features(encoder), num_classes, device="meta").to_empty(device="cpu")
    generator = Generator().manual_seed(seed)
    nn.init.xavier_uniform_(head.weight, generator=generator)
    nn.init.zeros_(head.bias)
    return EncoderNetwork(encoder, head=head)


def rotate(
    patch: Float[Tensor, "channel i j k"], *, axis: int, turns: int
) -> Float[Tensor, "channel i j k"]:
    """Rotate a patch by right-handed quarter turns about an axis; negative ones turn it back.

    Args:
        patch: Any intensities.
        axis: 0, 1, 2 for i, j, k.
        turns: Number of quarter turns.

    Raises:
        ValueError: The two sides that change places differ.
    """
    first, second = 1 + (axis + 1) % 3, 1 + (axis + 2) % 3
    if patch.shape[first] != patch.shape[second]:
        raise ValueError(f"a patch of {tuple(patch.shape[1:])} voxels is not square about {axis}")
    return torch.rot90(patch, turns, (first, second))
