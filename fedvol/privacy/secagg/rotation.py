"""A public random rotation that gives all values of an update about the same size.

The row is padded to a multiple of 4,096 and laid out in 4,096 lines. In each column signs are
changed by a public keystream, then the orthonormal Hadamard transform of that length is taken; the
columns one after another are the rotated row. Values of one column lie far apart in the network,
so that a layer of large values does not fill any column.

Reference: Suresh et al. 2017, "Distributed mean estimation with limited communication".
"""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from fedvol.privacy.secagg.flat import FlatState
from fedvol.privacy.secagg.hashing import derive_key
from fedvol.privacy.secagg.masks import Masks, MaskStream

LENGTH: Final = 4096
READ_AT_ONCE: Final = 128 * LENGTH
"""Values that are rotated at once: of each line so many lie side by side in memory."""


def padded(num_values: int) -> int:
    """Values of a row once it is padded."""
    return -(-max(num_values, 1) // LENGTH) * LENGTH


@final
class Rotation:
    """The rotation of one sum.

    Args:
        context: Of the sum; everybody has the same signs.
        num_values: Values of the row before it is padded.
    """

    def __init__(self, context: bytes, *, num_values: int) -> None:
        self.num_padded = padded(num_values)
        self._width = self.num_padded // LENGTH
        self._key = derive_key(context, "rot", salt=b"")

    def read(self, values: FlatState, *, at: range, into: NDArray[np.float32]) -> None:
        """Rotated values at these places, whole columns.

        Args:
            values: The row, padded.
            at: Places of the rotated row.
            into: As many values.
        """
        columns = _columns(at)
        lines = values.columns(columns, width=self._width)
        lines *= self._signs(columns)
        into.reshape(-1, LENGTH)[:] = _hadamard(lines).T

    def put(self, rotated: NDArray[np.float32], *, at: range, into: NDArray[np.float32]) -> None:
        """Turn rotated values back, and write them where they came from.

        Args:
            rotated: Values at these places.
            at: Places of the rotated row, whole columns.
            into: The whole row, padded.
        """
        columns = _columns(at)
        lines = _hadamard(np.ascontiguousarray(rotated.reshape(-1, LENGTH).T))
        lines *= self._signs(columns)
        into.reshape(LENGTH, self._width)[:, columns.start : columns.stop] = lines

    def _signs(self, columns: range) -> NDArray[np.float32]:
        """1 or -1 for each value of some columns, a bit each of the public keystream; lines."""
        bits = np.zeros(len(columns) * LENGTH // 8, dtype=np.uint8)
        stream = MaskStream(
            Masks(added=(self._key,)), dtype=bits.dtype, start=columns.start * LENGTH // 8
        )
        stream.apply(bits)
        minus = np.unpackbits(bits).reshape(-1, LENGTH).T.astype(np.float32)
        return 1 - 2 * minus


def _columns(at: range) -> range:
    if at.start % LENGTH or at.stop % LENGTH:
        raise ValueError("a rotated row is read in whole columns")
    return range(at.start // LENGTH, at.stop // LENGTH)


def _hadamard(lines: NDArray[np.float32]) -> NDArray[np.float32]:
    """The orthonormal Hadamard transform of each column; its own inverse.

    Butterflies between lines, all of whose columns lie side by side in memory. (A product with the
    matrix would wake the threads of the linear algebra library.)
    """
    spare = np.empty_like(lines)
    half = 1
    while half < LENGTH:
        pairs, turned = (one.reshape(-1, 2, half, lines.shape[1]) for one in (lines, spare))
        np.add(pairs[:, 0], pairs[:, 1], out=turned[:, 0])
        np.subtract(pairs[:, 0], pairs[:, 1], out=turned[:, 1])
        lines, spare = spare, lines
        half *= 2
    lines *= np.float32(LENGTH**-0.5)
    return lines
