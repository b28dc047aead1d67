"""`FlatState`: named tensors as one row of values, read piece by piece without a copy of all."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import final

import numpy as np
from numpy.typing import NDArray

from fedvol.types import State

_AT_ONCE = 1 << 16


@final
class FlatState:
    """Tensors in a given order, each in C order, one after another.

    Args:
        state: Float32 tensors.
        names: Their order.
        num_padded: Values of the row; what the tensors do not fill is 0.

    Raises:
        ValueError: The tensors hold more.
    """

    def __init__(
        self, state: State, *, names: Sequence[str], num_padded: int | None = None
    ) -> None:
        self._rows: list[NDArray[np.float32]] = [
            np.ascontiguousarray(state[name], dtype=np.float32).reshape(-1) for name in names
        ]
        self._ends = list(accumulate(len(row) for row in self._rows))
        self.num_values = self._ends[-1] if self._ends else 0
        self.num_padded = self.num_values if num_padded is None else num_padded
        if self.num_padded < self.num_values:
            raise ValueError("a row cannot be padded to less than it holds")

    def norm(self) -> float:
        """L2 norm of all values, summed in float64."""
        held = np.empty(_AT_ONCE)
        total = 0.0
        for row in self._rows:
            for at in range(0, len(row), _AT_ONCE):
                piece = held[: len(row[at : at + _AT_ONCE])]
                np.copyto(piece, row[at : at + _AT_ONCE])
                piece *= piece
                total += float(piece.sum())
        return total**0.5

    def read(self, at: range, *, into: NDArray[np.float32]) -> None:
        """Values at these places.

        Args:
            at: Places.
            into: As many values.
        """
        for index in range(bisect_right(self._ends, at.start), len(self._rows)):
            begin = self._ends[index] - len(self._rows[index])
            if begin >= at.stop:
                break
            low, high = max(begin, at.start), min(self._ends[index], at.stop)
            into[low - at.start : high - at.start] = self._rows[index][low - begin : high - begin]
        into[max(0, self.num_values - at.start) :] = 0

    def columns(self, at: range, *, width: int) -> NDArray[np.float32]:
        """Columns of the row laid out in lines of a width, whole lines; (line, column).

        Args:
            at: Which columns.
            width: Values of a line; the padded row is a whole number of lines.
        """
        found = np.zeros((self.num_padded // width, len(at)), dtype=np.float32)
        for row, end in zip(self._rows, self._ends, strict=True):
            _put_columns(found, row, begin=end - len(row), at=at, width=width)
        return found


def _put_columns(
    found: NDArray[np.float32], row: NDArray[np.generic], *, begin: int, at: range, width: int
) -> None:
    """Take what a tensor holds of some columns: of its first line, whole lines, its last line."""
    end = begin + len(row)
    first_whole = -(-begin // width)
    last_whole = end // width
    if last_whole > first_whole:
        whole = row[first_whole * width - begin : last_whole * width - begin]
        lines = whole.reshape(-1, width)
        found[first_whole:last_whole] = lines[:, at.start : at.stop]
    for line in {begin // width, last_whole} - set(range(first_whole, last_whole)):
        low = max(begin, line * width + at.start)
        high = min(end, line * width + at.stop)
        if low < high:
            column = low - line * width - at.start
            found[line, column : column + high - low] = row[low - begin : high - begin]
