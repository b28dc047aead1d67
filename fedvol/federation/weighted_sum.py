"""Weighted mean of many updates in the memory of one: a tensor at a time, a site at a time."""

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedvol.errors import ContributionError
from fedvol.plan import TensorSpec


class TensorReader(Protocol):
    """An update that lies somewhere, such as in a file, and is read piece by piece."""

    def read(self, name: str) -> NDArray[np.generic]:
        """One tensor."""
        ...


def average(
    contributions: Sequence[tuple[float, TensorReader]], *, specs: Sequence[TensorSpec]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield sum(w_k x_k) / sum(w_k), one tensor at a time.

    Args:
        contributions: Weight and update of each site, sorted by site: then no bit of the result
            depends on the order of arrival.
        specs: The tensors to average, in the order in which they are yielded.

    Yields:
        Name and mean in float64; the array is the consumer's to keep.

    Raises:
        ContributionError: No weight is positive, a weight is negative or not finite, or a
            tensor has another shape than its description.
    """
    shares = _shares([weight for weight, _ in contributions])
    readers = [reader for _, reader in contributions]
    return ((spec.name, _mean(spec, shares, readers)) for spec in specs)


def _mean(
    spec: TensorSpec, shares: Sequence[float], readers: Sequence[TensorReader]
) -> NDArray[np.float64]:
    mean = np.zeros(spec.shape, dtype=np.float64)
    for share, reader in zip(shares, readers, strict=True):
        _add(mean, share, reader.read(spec.name), name=spec.name)
    return mean


def _add(
    mean: NDArray[np.float64], share: float, tensor: NDArray[np.generic], *, name: str
) -> None:
    if tensor.shape != mean.shape:
        raise ContributionError(
            f"tensor {name}",
            f"shape {tensor.shape} instead of {mean.shape}",
            "Check contributions before they are stored.",
        )
    mean += np.multiply(tensor, share, dtype=np.float64)


def _shares(weights: Sequence[float]) -> list[float]:
    if any(not math.isfinite(weight) or weight < 0 for weight in weights):
        raise ContributionError(
            "weights", "a weight is negative or not finite", "Leave out the site that reported it."
        )
    total = math.fsum(weights)
    if not 0 < total < math.inf:
        raise ContributionError(
            "weights",
            "all weights together are zero or overflow",
            'Count updates by "equal", or let a site with training cases take part.',
        )
    # A single site has share 1 exactly, and its update comes back bit for bit.
    return [weight / total for weight in weights]
