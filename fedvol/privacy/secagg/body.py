"""The body of a sum: an update's tensors, one after another, as words that add up.

A value x becomes floor(x scale + r), r uniform on [0, 1): its mean is x scale, so rounding adds no
bias to a sum. `scale` is a power of two such that the words of all parties together do not pass
what a signed word holds. Words of 16 bits have room for values of one size alone: the body is
rotated first (`rotation.py`), which spreads what is large over all of them.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from fedvol.privacy.secagg.context import Terms
from fedvol.privacy.secagg.masks import Words

NOISE_BITS: Final = 24
"""Bits of the uniform numbers by which values are rounded."""
ROTATED_RANGE: Final = 8.0
"""kappa: how many times the expected size a rotated value may have before it is cut off."""


@dataclass(frozen=True, kw_only=True)
class BodyCode:
    """Between values and words, for so many parties.

    Attributes:
        terms: Of the sum.
        num_words: Words of the body: the values, and what the rotation pads.
        num_parties: Parties whose words may be added, n.
    """

    terms: Terms
    num_words: int
    num_parties: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the words."""
        return np.dtype(f"<u{self.terms.bits // 8}")

    @cached_property
    def largest(self) -> float:
        """Largest size of a value before it is scaled."""
        if self.terms.bits == 32:
            return self.terms.norm_bound
        return ROTATED_RANGE * self.terms.norm_bound / math.sqrt(self.num_words)

    @cached_property
    def scale(self) -> float:
        """Steps of a word in one unit of a value; a power of two."""
        room = 2 ** (self.terms.bits - 1) - 1 - self.num_parties
        return float(2.0 ** math.floor(math.log2(room / (self.num_parties * self.largest))))

    def decode(self, words: Words, *, total_weight: int) -> NDArray[np.float64]:
        """The weighted mean of the values of which these words are the sum."""
        signed = words.view(np.dtype(f"<i{self.terms.bits // 8}"))
        return signed * (self.terms.max_weight / (self.scale * total_weight))


@final
class BodyEncoder:
    """Encodes chunk after chunk in the same buffers: fresh memory would take most of the time.

    Args:
        code: Of the body.
        factor: What values are multiplied by: the norm's clipping and the share of the weight.
        size: Values of the largest chunk.
    """

    def __init__(self, code: BodyCode, *, factor: float, size: int) -> None:
        self._signed = code.dtype.newbyteorder("<").str.replace("u", "i")
        self._factor = factor * code.scale
        self._largest = code.largest * code.scale if code.terms.bits == 16 else None
        self._scaled = np.empty(size)
        self._uniform = np.empty(size)

    def encode(self, values: NDArray[np.float32], *, noise: Words, into: Words) -> None:
        """Write the words of some values.

        Args:
            values: Of an update, finite.
            noise: As many words of 32 bits from a fresh keystream; used up.
            into: Where the words go.
        """
        scaled, uniform = self._scaled[: len(values)], self._uniform[: len(values)]
        np.multiply(values, self._factor, out=scaled)
        if self._largest is not None:
            np.clip(scaled, -self._largest, self._largest, out=scaled)
        np.right_shift(noise, 32 - NOISE_BITS, out=noise)
        np.multiply(noise, 2.0**-NOISE_BITS, out=uniform)
        scaled += uniform
        np.floor(scaled, out=scaled)
        np.copyto(into.view(self._signed), scaled, casting="unsafe")


def clipping(norm: float, *, bound: float) -> float:
    """What an update of this L2 norm is multiplied by, so that it is within the bound."""
    return 1.0 if norm <= bound else bound / norm
