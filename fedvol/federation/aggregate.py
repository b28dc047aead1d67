"""The next global state from the present one and a round's contributions, a tensor at a time."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedvol.federation.companions import COMPANION_DTYPE, companion_name, companion_specs
from fedvol.federation.exchange import Exchange
from fedvol.federation.strategy import Mean, ServerOptimiser
from fedvol.federation.weighted_sum import TensorReader, average


def next_global(
    present: TensorReader,
    contributions: Sequence[tuple[float, TensorReader]],
    *,
    exchange: Exchange,
    optimiser: ServerOptimiser,
    is_first: bool = False,
    share: float = 1.0,
    kept: float = 1.0,
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Yield each shared tensor of the next global state, followed by its companions.

    Everything is computed in float64 and rounded once to the type in which it is kept. Memory is
    that of a few tensors, whatever the number of sites.

    Args:
        present: The global state, with its companions unless it `is_first`.
        contributions: Weight and update of each site, sorted by site.
        exchange: What travels.
        optimiser: What is made of the mean update.
        is_first: Whether no companions are there yet; they begin as the optimiser says.
        share: See `Mean.share`.
        kept: See `Mean.kept`.

    Raises:
        ContributionError: Weights or shapes cannot be summed.
        CheckpointError: A tensor or companion is missing.
    """
    for spec in exchange.shared:
        travelling = companion_specs([spec], names=exchange.companions)
        means = dict(average(contributions, specs=(spec, *travelling)))
        tensor = present.read(spec.name)
        if not spec.trainable:
            yield spec.name, (tensor.astype(np.float64) + means[spec.name]).astype(tensor.dtype)
            continue
        stepped = optimiser.step(
            tensor.astype(np.float64),
            mean=Mean(
                update=means[spec.name],
                companions={
                    name: means[companion_name(name, spec.name)] for name in exchange.companions
                },
                share=share,
                kept=kept,
            ),
            companions={
                name: np.full(spec.shape, start)
                if is_first
                else present.read(companion_name(name, spec.name)).astype(np.float64)
                for name, start in optimiser.companions.items()
            },
        )
        yield spec.name, stepped.tensor.astype(tensor.dtype)
        for name in optimiser.companions:
            yield companion_name(name, spec.name), stepped.companions[name].astype(COMPANION_DTYPE)
