"""A public random rotation that gives all values of an update about the same size.

The row is padded to a multiple of 4,096 and laid out in 4,096 lines. In each column signs are
changed by a public keystream, then the orthonormal Hadamard transform of that length is taken; the
columns one after another are the rotated row. Values of one column lie far apart in the network,
so that a layer of large values does not fill any column.

Reference: Suresh et al. 2017, "Distributed mean estimation with limited communication".
"""

from functools import cache
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from fedvol.privacy.secagg.flat import FlatState
from fedvol.privacy.secagg.hashing import derive_key
from fedvol.privacy.secagg.masks import Masks, MaskStream

LENGTH: Final = 4096
_SIDE = 64


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

    def read(self, values: FlatState, *, at: range) -> NDArray[np.float32]:
        """Rotated values at these places, whole columns.

        Args:
            values: The row, padded.
            at: Places of the rotated row.
        """
        columns = _columns(at)
        turned = np.ascontiguousarray(values.columns(columns, width=self._width).T)
        turned *= self._signs(columns)
        return _hadamard(turned).reshape(-1)

    def put(self, rotated: NDArray[np.float32], *, at: range, into: NDArray[np.float32]) -> None:
        """Turn rotated values back, and write them where they came from.

        Args:
            rotated: Values at these places.
            at: Places of the rotated row, whole columns.
            into: The whole row, padded.
        """
        columns = _columns(at)
        turned = _hadamard(rotated.reshape(-1, LENGTH))
        turned *= self._signs(columns)
        into.reshape(LENGTH, self._width)[:, columns.start : columns.stop] = turned.T

    def _signs(self, columns: range) -> NDArray[np.float32]:
        """1 or -1 for each value of some columns: a bit each of the public keystream."""
        bits = np.zeros(len(columns) * LENGTH // 8, dtype=np.uint8)
        stream = MaskStream(
            Masks(added=(self._key,)), dtype=bits.dtype, start=columns.start * LENGTH // 8
        )
        stream.apply(bits)
        signs = 1.0 - 2.0 * np.unpackbits(bits).astype(np.float32)
        return signs.reshape(-1, LENGTH)


def _columns(at: range) -> range:
    if at.start % LENGTH or at.stop % LENGTH:
        raise ValueError("a rotated row is read in whole columns")
    return range(at.start // LENGTH, at.stop // LENGTH)


def _hadamard(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The orthonormal Hadamard transform of each row; its own inverse."""
    squares = rows.reshape(-1, _SIDE, _SIDE)
    turned: NDArray[np.float32] = np.matmul(np.matmul(_matrix(), squares), _matrix())
    return turned.reshape(-1, LENGTH)


@cache
def _matrix() -> NDArray[np.float32]:
    """Hadamard's matrix of side 64 (Sylvester), divided by 8."""
    rows: list[list[int]] = [[1]]
    while len(rows) < _SIDE:
        rows = [[*row, *row] for row in rows] + [[*row, *(-x for x in row)] for row in rows]
    return np.array(rows, dtype=np.float32) / np.float32(np.sqrt(_SIDE))
