"""`Strategy`: what a site's update counts by, and what the server makes of the mean update."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, assert_never, final

import numpy as np
from numpy.typing import NDArray

from fedvol.federation.arguments import RoundArguments
from fedvol.federation.companions import Companions

Needs = Literal["sum", "each"]
"""Whether the weighted sum suffices, or the server must see every single update."""

Weighting = Literal["cases", "steps", "equal"]

Tensor64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """What the contributions of a round say of one tensor.

    Attributes:
        update: Weighted mean of the sites' updates.
        companions: Weighted means of the updates of companions that travel.
        share: Weight of the sites that contributed, as a share of all known sites' weight.
        kept: Weight of all known sites in the round before, as a share of it now; 1 unless a
            site became known in between.
    """

    update: Tensor64
    companions: Companions = field(default_factory=dict[str, Tensor64])
    share: float = 1.0
    kept: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """One tensor of the new global state, with its new companions."""

    tensor: Tensor64
    companions: Companions = field(default_factory=dict[str, Tensor64])


class Strategy(Protocol):
    """The server's half of a federated optimiser; the sites' half is in their training.

    It holds settings alone. What it must remember of a tensor are companions; what it must
    remember of rounds is read from the record.
    """

    @property
    def needs(self) -> Needs:
        """Whether sums suffice; `each` excludes secure sums."""
        ...

    @property
    def companions(self) -> Mapping[str, float]:
        """Companions of every trainable tensor, with the value they start from."""
        ...

    def weight(self, *, cases: int, steps: int) -> float:
        """What one site's update counts by; compared between sites, so no unit."""
        ...

    def arguments(self, losses: Iterable[float]) -> RoundArguments:
        """What sites are told for a round, from the global training loss of each round before."""
        ...

    def step(self, tensor: Tensor64, *, mean: Mean, companions: Companions) -> Stepped:
        """One trainable tensor of the new global state, from the present one.

        Tensors that are not trained, such as running statistics, only ever get the mean update.
        """
        ...


def weight_by(weighting: Weighting, *, cases: int, steps: int) -> float:
    """What an update counts by: training cases, gradient steps, or one for each site."""
    match weighting:
        case "cases":
            return float(cases)
        case "steps":
            return float(steps)
        case "equal":
            return 1.0
        case _:
            assert_never(weighting)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedMean:
    """Add the weighted mean update to the global state (McMahan et al. 2017, algorithm 1).

    Attributes:
        weighting: Training cases, gradient steps, or one for each site.
    """

    weighting: Weighting

    @property
    def needs(self) -> Needs:
        """Sums suffice."""
        return "sum"

    @property
    def companions(self) -> Mapping[str, float]:
        """None."""
        return {}

    def weight(self, *, cases: int, steps: int) -> float:
        """Training cases, steps or one."""
        return weight_by(self.weighting, cases=cases, steps=steps)

    def arguments(self, losses: Iterable[float]) -> RoundArguments:
        """Nothing."""
        del losses
        return RoundArguments()

    def step(self, tensor: Tensor64, *, mean: Mean, companions: Companions) -> Stepped:
        """Global plus mean update."""
        del companions
        return Stepped(tensor=tensor + mean.update)
