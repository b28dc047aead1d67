"""Sums that a site may send, from which values and 95 % intervals follow without a case."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedvol.errors import ContributionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """One number a report may print.

    Attributes:
        value: Mean over the cases where the metric is defined; None if there is none.
        n: How many cases that is.
        low: Lower end of the 95 % bootstrap interval by subject; None where `MetricSums.stat` says.
        high: Upper end.
        undefined: Cases left out because neither mask holds the class.
        penalised: Cases among `n` where one mask alone is empty (Dice 0, distance = diagonal).
    """

    value: float | None
    n: int
    low: float | None
    high: float | None
    undefined: int
    penalised: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSums:
    """Per metric: column 0 over all cases, columns 1.. over bootstrap replicates.

    Attributes:
        keys: Metric names such as `dice` or `dice/liver`; one row each.
        sums: Sums over cases, float64, (metric, 1 + replicate).
        counts: Cases summed, float64, (metric, 1 + replicate): whole numbers in column 0, sums of
            the weights of the cases drawn in the others.
        undefined: Cases left out because neither mask holds the class, int64, (metric,).
        penalised: Cases where one mask alone is empty, int64, (metric,).
        lone_sites: Sites whose cases summed are all of one subject, int64, (metric,); 0 or 1 for
            one site.
    """

    keys: tuple[str, ...]
    sums: NDArray[np.float64]
    counts: NDArray[np.float64]
    undefined: NDArray[np.int64]
    penalised: NDArray[np.int64]
    lone_sites: NDArray[np.int64]

    def replicates(self, key: str) -> NDArray[np.float64]:
        """The metric's value in each replicate, (replicate,); NaN where no case was drawn."""
        row = self.keys.index(key)
        sums, counts = self.sums[row, 1:], self.counts[row, 1:]
        return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)

    def stat(self, key: str) -> Stat:
        """Value, n and percentile interval of one metric.

        There is no interval without replicates, where no replicate drew a case, and where one of
        the sites has a single subject behind the metric: resampling says nothing of its spread.

        Reference: Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
        """
        row = self.keys.index(key)
        n = int(self.counts[row, 0])
        low, high = (None, None) if self.lone_sites[row] else _interval(self.replicates(key))
        return Stat(
            value=float(self.sums[row, 0] / n) if n else None,
            n=n,
            low=low,
            high=high,
            undefined=int(self.undefined[row]),
            penalised=int(self.penalised[row]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """How much larger one model's metric is than another's, on the same resampled subjects.

    Attributes:
        value: Difference of the means; None if one of them has no case.
        low: Lower end of the 95 % bootstrap interval by subject; None where one of the two has
            none, or no replicate drew a case for both.
        high: Upper end.
        n: Cases behind the first model's mean.
        other_n: Cases behind the other's: a class that one model alone finds is defined for it.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    other_n: int


def merge(parts: Sequence[MetricSums]) -> MetricSums:
    """Add the sums of several sites; replicate r is the union of every site's replicate r.

    Raises:
        ContributionError: The parts name other metrics or hold other numbers of replicates.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.keys != first.keys or part.sums.shape != first.sums.shape:
            raise ContributionError(
                "evaluation",
                "sites report other metrics or numbers of replicates",
                "Bring every site to the run's fedvol version.",
            )
    return MetricSums(
        keys=first.keys,
        sums=np.sum([part.sums for part in parts], axis=0),
        counts=np.sum([part.counts for part in parts], axis=0),
        undefined=np.sum([part.undefined for part in parts], axis=0),
        penalised=np.sum([part.penalised for part in parts], axis=0),
        lone_sites=np.sum([part.lone_sites for part in parts], axis=0),
    )


def difference(a: MetricSums, b: MetricSums, *, key: str) -> PairedDifference:
    """Metric of `a` minus metric of `b`, replicate by replicate.

    Both must come from the same sites, subjects and plan: then replicate r drew the same subjects
    for both. A replicate without any case for one of them is left out.

    Raises:
        ContributionError: The two hold other numbers of replicates.
    """
    if a.sums.shape[1] != b.sums.shape[1]:
        raise ContributionError(
            "evaluation",
            "two models were judged with other numbers of replicates",
            "Judge both under the same plan.",
        )
    one, other = a.stat(key), b.stat(key)
    if one.value is None or other.value is None:
        return PairedDifference(value=None, low=None, high=None, n=one.n, other_n=other.n)
    low, high = None, None
    if not any(part.lone_sites[part.keys.index(key)] for part in (a, b)):
        low, high = _interval(a.replicates(key) - b.replicates(key))
    return PairedDifference(
        value=one.value - other.value, low=low, high=high, n=one.n, other_n=other.n
    )


def _interval(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The 2.5th and 97.5th percentile of the values that are not NaN."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None, None
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)
