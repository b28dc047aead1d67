"""`Box`: a patch that may stick out of its volume."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Shaped

from fedvol.types import Triple


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box against a volume: the part inside, and how much lies outside.

    Attributes:
        inner: The part inside the volume, one slice per axis; empty where they do not meet.
        before: Voxels outside before the part, per axis.
        size: Voxels of the whole box.
    """

    inner: tuple[slice, slice, slice]
    before: Triple
    size: Triple

    @classmethod
    def at(cls, start: Triple, *, size: Triple, shape: Triple) -> Self:
        """The box of `size` voxels whose first voxel is `start`."""
        lows = [min(max(low, 0), side) for low, side in zip(start, shape, strict=True)]
        highs = [
            max(low, min(first + length, side))
            for low, first, length, side in zip(lows, start, size, shape, strict=True)
        ]
        i, j, k = (slice(low, high) for low, high in zip(lows, highs, strict=True))
        a, b, c = (low - first for low, first in zip(lows, start, strict=True))
        return cls(inner=(i, j, k), before=(a, b, c), size=size)

    @property
    def outer(self) -> tuple[slice, slice, slice]:
        """Where in the box the part inside the volume lies, one slice per axis."""
        i, j, k = (
            slice(first, first + part.stop - part.start)
            for first, part in zip(self.before, self.inner, strict=True)
        )
        return i, j, k

    @property
    def is_inside(self) -> bool:
        """Whether no voxel of the box lies outside the volume."""
        sides = tuple(part.stop - part.start for part in self.inner)
        return sides == self.size

    def pad(
        self, inner: Shaped[np.ndarray, "... i j k"], *, value: float
    ) -> Shaped[np.ndarray, "... x y z"]:
        """The whole box around the part inside; the part itself where nothing lies outside."""
        if self.is_inside:
            return inner
        out = np.full((*inner.shape[:-3], *self.size), value, dtype=inner.dtype)
        out[(..., *self.outer)] = inner
        return out
