"""The tail of a sum: the weight, and figures that may be told as sums, in words of 64 bits."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from fedvol.errors import NonFiniteUpdateError
from fedvol.privacy.secagg.masks import Words

FRACTION_BITS: Final = 20
TAIL_DTYPE: Final[np.dtype[Any]] = np.dtype("<u8")

_LARGEST = 2.0**40


def encode_tail(weight: int, figures: Sequence[float]) -> Words:
    """The weight, then each figure in steps of 2^-20.

    Raises:
        NonFiniteUpdateError: A figure is NaN, infinite or above 2^40, where a sum could overflow.
    """
    if not all(abs(figure) < _LARGEST for figure in figures):  # false of NaN as well
        raise NonFiniteUpdateError(
            "figures before a secure sum",
            "one is NaN, infinite or larger than any loss or metric",
            "Look at the site's training.",
        )
    fixed = [weight, *(round(figure * 2**FRACTION_BITS) for figure in figures)]
    return np.array(fixed, dtype=np.int64).view(TAIL_DTYPE)


def decode_tail(words: Words) -> tuple[int, tuple[float, ...]]:
    """The sum of the weights, and the sums of the figures."""
    weight, *figures = (int(word) for word in words.view(np.int64))
    return weight, tuple(figure / 2**FRACTION_BITS for figure in figures)
