"""What one training step sees: patches with their labels, or unlabelled ones."""

from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Labelled patches of one step.

    Attributes:
        image: Normalised intensities, (batch, channel, i, j, k).
        label: Class index per voxel, (batch, i, j, k).
    """

    image: Float[Tensor, "batch channel i j k"]
    label: Int64[Tensor, "batch i j k"]

    def to(self, device: torch.device, *, layout: torch.memory_format) -> Self:
        """The same patches on a device, their images in a memory layout."""
        return type(self)(
            image=self.image.to(device, memory_format=layout, non_blocking=True),
            label=self.label.to(device, non_blocking=True),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlabelledBatch:
    """Patches of one step of self-supervised training.

    Attributes:
        image: Normalised intensities, (batch, channel, i, j, k). Where a pretext task asks for
            pairs, the second half holds the partners of the first, each from another case.
        seed: Of everything the task draws for this batch, so that a repeated step is the same.
        inside: Which voxels lie in their volume, and are not padding; None: all of them.
    """

    image: Float[Tensor, "batch channel i j k"]
    seed: int
    inside: Bool[Tensor, "batch 1 i j k"] | None = None

    def to(self, device: torch.device, *, layout: torch.memory_format) -> Self:
        """The same patches on a device and in a memory layout."""
        image = self.image.to(device, memory_format=layout, non_blocking=True)
        inside = None if self.inside is None else self.inside.to(device, non_blocking=True)
        return type(self)(image=image, seed=self.seed, inside=inside)

    def generator(self) -> torch.Generator:
        """A new source of this batch's draws, on the CPU, so that devices draw the same."""
        return torch.Generator().manual_seed(self.seed)


AnyBatch = TypeVar("AnyBatch", Batch, UnlabelledBatch)
Batch_contra = TypeVar("Batch_contra", bound=Batch | UnlabelledBatch, contravariant=True)
Batch_co = TypeVar("Batch_co", bound=Batch | UnlabelledBatch, covariant=True)


class BatchSource(Protocol[Batch_co]):
    """Gives the batch of a step as a function of the step alone, so a restart repeats it."""

    def batch(self, step: int) -> Batch_co:
        """The batch of one step, counted from 0 over the whole stage."""
        ...
