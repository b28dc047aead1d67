"""`Strategy`: what an update counts by, what the server makes of the mean, what sites are told."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, assert_never, final

import numpy as np
from numpy.typing import NDArray

from fedvol.federation.arguments import RoundArguments
from fedvol.federation.companions import Companions

Weighting = Literal["cases", "equal"]

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


class ServerOptimiser(Protocol):
    """What the server makes of the mean update.

    It holds settings alone: what it must remember of a tensor are companions.
    """

    @property
    def companions(self) -> Mapping[str, float]:
        """Companions of every trainable tensor, with the value they start from."""
        ...

    def step(self, tensor: Tensor64, *, mean: Mean, companions: Companions) -> Stepped:
        """One trainable tensor of the new global state, from the present one.

        Tensors that are not trained, such as running statistics, only ever get the mean update.
        """
        ...


class Schedule(Protocol):
    """What sites are told in a round, beside the global state."""

    def arguments(self, losses: Iterable[float]) -> RoundArguments:
        """For the next round, from the global training loss of each round before."""
        ...


@final
@dataclass(frozen=True, slots=True)
class AddMean:
    """Global plus mean update (McMahan et al. 2017, algorithm 1)."""

    @property
    def companions(self) -> Mapping[str, float]:
        """None."""
        return {}

    def step(self, tensor: Tensor64, *, mean: Mean, companions: Companions) -> Stepped:
        """The sum of both."""
        del companions
        return Stepped(tensor=tensor + mean.update)


@final
@dataclass(frozen=True, slots=True)
class NothingToTell:
    """Every round is like the one before."""

    def arguments(self, losses: Iterable[float]) -> RoundArguments:
        """None; the losses are not read."""
        del losses
        return RoundArguments()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """The server's half of a federated optimiser; the sites' half is in their training.

    Attributes:
        weighting: What a site's update counts by.
        optimiser: What is made of the mean update.
        schedule: What sites are told.
    """

    weighting: Weighting
    optimiser: ServerOptimiser = AddMean()
    schedule: Schedule = NothingToTell()

    def weight(self, *, cases: int) -> float:
        """What the update of a site with so many training cases counts by; without a unit."""
        match self.weighting:
            case "cases":
                return float(cases)
            case "equal":
                return 1.0
            case _:
                assert_never(self.weighting)
