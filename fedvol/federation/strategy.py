"""`Strategy`: what a site's update counts by, and what the server makes of the mean update."""

from dataclasses import dataclass
from typing import Literal, Protocol, assert_never, final

import numpy as np
from numpy.typing import NDArray

from fedvol.config import strategy as config
from fedvol.federation.reports import TrainReport

Needs = Literal["sum", "each"]
"""Whether the weighted sum suffices, or the server must see every single update."""

Weighting = Literal["cases", "steps", "equal"]


class Strategy(Protocol):
    """The server's half of a federated optimiser; the sites' half is in their objective."""

    @property
    def needs(self) -> Needs:
        """Whether sums suffice; `each` excludes secure sums."""
        ...

    def weight(self, report: TrainReport) -> float:
        """What one site's update counts by; compared between sites, so no unit."""
        ...

    def step(
        self, global_tensor: NDArray[np.generic], *, mean_update: NDArray[np.float64]
    ) -> NDArray[np.generic]:
        """One tensor of the new global state, in the type of the old one."""
        ...


def build_strategy(settings: config.Strategy) -> Strategy:
    """The server's half of the strategy a study names.

    FedProx differs in the sites' loss and FedBN in what travels; the server does the same in all.
    """
    match settings:
        case config.FedAvg() | config.FedProx() | config.FedBN():
            return WeightedMean(weighting=settings.weighting)
        case _:
            assert_never(settings)


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

    def weight(self, report: TrainReport) -> float:
        """Training cases, steps or one."""
        match self.weighting:
            case "cases":
                return float(report.cases)
            case "steps":
                return float(report.steps)
            case "equal":
                return 1.0
            case _:
                assert_never(self.weighting)

    def step(
        self, global_tensor: NDArray[np.generic], *, mean_update: NDArray[np.float64]
    ) -> NDArray[np.generic]:
        """Global plus mean update, added in float64 and rounded once."""
        return (global_tensor.astype(np.float64) + mean_update).astype(global_tensor.dtype)
