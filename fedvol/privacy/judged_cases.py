"""Which figures of an evaluation would tell of few subjects, alone or less one another.

A site tells of each metric its sum, and its cases with a value, without one, and penalised. Its
floor counts subjects. So each of these groups of cases, and what is left of one less another that
lies inside it, must have no subject behind it or enough. A mean over classes less multiples of its
classes is a figure over the cases whose share does not cancel; they are held to the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedvol.config.metrics import metric_name
from fedvol.privacy.floors import is_small
from fedvol.types import SubjectId

_Cases = NDArray[np.bool_]
"""A group of cases, (case,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCases:
    """What stands behind the figures of an evaluation; it stays at the site.

    Attributes:
        subjects: Whose each case is.
        defined: Whether a case has a value, bool, (case, metric).
        penalised: Whether that value stands for a mask empty on one side, bool, (case, metric).
    """

    subjects: tuple[SubjectId, ...]
    defined: NDArray[np.bool_]
    penalised: NDArray[np.bool_]

    @property
    def num_subjects(self) -> int:
        """How many subjects were judged."""
        return len(set(self.subjects))


def hidden_metrics(behind: JudgedCases, *, keys: Sequence[str], floor: int) -> frozenset[str]:
    """Metrics of which nothing may be told.

    A mean over classes is kept as long as it can be: where it and its classes together would tell
    of few subjects, classes are hidden, those with fewest cases first.

    Args:
        behind: The cases.
        keys: Metric names in the arrays' order: a mean over classes, or `metric/class`.
        floor: Fewest subjects behind a figure.
    """
    owner = np.unique(np.array(behind.subjects), return_inverse=True)[1]
    hidden: set[str] = set()
    for metric in dict.fromkeys(metric_name(key) for key in keys):
        rows = [row for row, key in enumerate(keys) if metric_name(key) == metric]
        family = _Family(
            owner=owner,
            floor=floor,
            keys=tuple(keys[row] for row in rows),
            defined=behind.defined[:, rows],
            penalised=behind.penalised[:, rows],
        )
        hidden |= set(family.keys) - family.told()
    return frozenset(hidden)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """A metric's mean over classes and its classes.

    Attributes:
        owner: Number of each case's subject.
        floor: Fewest subjects behind a figure.
        keys: Names; that of the mean has no class.
        defined: As in `JudgedCases`, these metrics alone.
        penalised: The same.
    """

    owner: NDArray[np.int64]
    floor: int
    keys: tuple[str, ...]
    defined: NDArray[np.bool_]
    penalised: NDArray[np.bool_]

    def told(self) -> set[str]:
        """The metrics of which everything may be told."""
        told = {row for row in range(len(self.keys)) if not self._is_small_alone(row)}
        while (row := self._culprit(told)) is not None:
            told.remove(row)
        return {self.keys[row] for row in told}

    def _is_small_alone(self, row: int) -> bool:
        defined, penalised = self.defined[:, row], self.penalised[:, row]
        return any(map(self._is_small, (defined, ~defined, penalised, defined & ~penalised)))

    def _culprit(self, told: set[int]) -> int | None:
        """A metric that has to be hidden too; None where nothing is told of few subjects."""
        if (pair := next(self._small_differences(told), None)) is not None:
            return self._fewest(pair)
        if any(self._is_mean(row) for row in told) and self._mean_tells_of_few(told):
            return self._fewest(told)
        return None

    def _small_differences(self, told: set[int]) -> Iterator[set[int]]:
        """Metrics one of which counts all cases that the other counts, and those of few more."""
        rows = [row for row in sorted(told) for _ in range(2)]
        groups = [group[:, row] for row in sorted(told) for group in (self.defined, self.penalised)]
        members = np.array(groups, dtype=np.int64).reshape(len(groups), len(self.owner))
        common = members @ members.T
        size = np.diag(common)
        is_inside = (common == size[:, np.newaxis]) & (size[:, np.newaxis] < size)
        for pair in np.argwhere(is_inside):
            part, whole = int(pair[0]), int(pair[1])
            if self._is_small(groups[whole] & ~groups[part]):
                yield {rows[part], rows[whole]}

    def _mean_tells_of_few(self, told: set[int]) -> bool:
        """Whether the mean less multiples of the classes told can be a figure over few subjects.

        A class leaves the cases whose mean is not over as many classes as its multiple is for; one
        that is hidden leaves all its cases. A penalised share is known to be 0.
        """
        classes = [row for row in range(len(self.keys)) if not self._is_mean(row)]
        in_mean = self.defined[:, classes].sum(axis=1)
        for used in (self.defined, self.defined & ~self.penalised):
            hidden = [row for row in classes if row not in told]
            rest: _Cases = np.any(used[:, hidden], axis=1, keepdims=True)[:, 0]
            if self._num_subjects(rest) >= self.floor:
                continue
            few = [
                [
                    left
                    for num in np.unique(in_mean)
                    if self._num_subjects(left := used[:, row] & (in_mean != num)) < self.floor
                ]
                for row in classes
                if row in told
            ]
            if all(few) and any(left.any() for left in (rest, *(one for f in few for one in f))):
                return True
        return False

    def _fewest(self, rows: set[int]) -> int:
        """The class with fewest cases; a mean only where there is no class."""
        return min(
            rows,
            key=lambda row: (self._is_mean(row), np.count_nonzero(self.defined[:, row]), row),
        )

    def _is_mean(self, row: int) -> bool:
        return metric_name(self.keys[row]) == self.keys[row]

    def _is_small(self, cases: _Cases) -> bool:
        return is_small(self._num_subjects(cases), floor=self.floor)

    def _num_subjects(self, cases: _Cases) -> int:
        return len(np.unique(self.owner[cases]))
