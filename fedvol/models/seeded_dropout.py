"""Dropout that draws from the batch and not from a random state: a repeated step is the same step.

A mask is a hash of each value's place, of the layer, and of a number that follows from the bits of
the batch. So a step that is repeated after a crash, at any site, in any thread or on any device,
drops the same values, while other batches and other layers drop others.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

Draw = Int64[Tensor, ""]
"""What one forward pass draws from."""

_BITS = 32
_MASK = (1 << _BITS) - 1
_FACTOR = 0x45D9F3B
"""Odd and below 2^31, so that its product with 32 bits fits into 63."""
_STEP = 0x9E3779B9
"""2^32 over the golden ratio: keeps the layers' numbers apart."""


def draw_of(image: Float[Tensor, "batch channel i j k"]) -> Draw:
    """A number that follows from the bits of a float32 batch, whatever its memory layout."""
    return image.detach().float().view(torch.int32).sum(dtype=torch.int64)


class SeededDropout(nn.Module):
    """Sets a share of values to zero and scales the rest, as `nn.Dropout` does.

    Args:
        share: Share of values that are dropped.
        layer: Number of this layer in its network; every layer drops other values.
        whole_samples: Drop whole samples of the batch, the first axis (stochastic depth).
    """

    def __init__(self, share: float, *, layer: int, whole_samples: bool = False) -> None:
        super().__init__()
        self.share = share
        self.layer = layer
        self.whole_samples = whole_samples

    def forward(self, x: Float[Tensor, "..."], draw: Draw | None) -> Float[Tensor, "..."]:
        """Drop by `draw`; None, as in evaluation, drops nothing."""
        if draw is None or self.share == 0:
            return x
        shape = (len(x), *[1] * (x.ndim - 1)) if self.whole_samples else tuple(x.shape)
        seed = _scramble(draw) ^ _scramble(draw >> _BITS) ^ (self.layer * _STEP & _MASK)
        is_dropped = _hashed(shape, seed=_scramble(seed)) < round(self.share * (_MASK + 1))
        return x.masked_fill(is_dropped, 0) * (1 / (1 - self.share))

    def extra_repr(self) -> str:
        """What `print` shows of it."""
        return f"{self.share}, layer={self.layer}, whole_samples={self.whole_samples}"


def _hashed(shape: tuple[int, ...], *, seed: Int64[Tensor, ""]) -> Int64[Tensor, "..."]:
    """32 bits for each place. Rows and columns are hashed apart, a place by one product of both."""
    num_columns = shape[-1]
    rows = torch.arange(math.prod(shape[:-1]), device=seed.device)[:, None]
    columns = torch.arange(num_columns, device=seed.device)
    bits = _scramble(rows ^ seed) ^ _scramble(columns ^ _scramble(seed + _STEP))
    return bits.mul_(_FACTOR).bitwise_and_(_MASK).view(shape)


def _scramble(number: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """The last 32 bits, hashed: a permutation in which neighbours have nothing in common."""
    number = number & _MASK
    for _ in range(2):
        number = ((number >> 16) ^ number) * _FACTOR & _MASK
    return (number >> 16) ^ number
