"""FedProx whose pull follows the training loss of all sites together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from fedvol.federation.arguments import RoundArguments
from fedvol.federation.companions import Companions
from fedvol.federation.strategy import Mean, Needs, Stepped, Tensor64, WeightedMean

_DECIMALS = 9
"""So that a hundred steps of 0.1 are 10 and not 9.99999999999998."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveProximal:
    """The weighted mean, and a mu for every round.

    Attributes:
        mean: What the server makes of updates.
        mu: Pull of the first round.
        mu_step: How much it rises or falls.
        falling_rounds: Rounds in a row in which the loss must fall before mu does.

    Reference: Li et al. (2020), arXiv:1812.06127, section 5.3.2.
    """

    mean: WeightedMean
    mu: float
    mu_step: float
    falling_rounds: int

    @property
    def needs(self) -> Needs:
        """Sums suffice."""
        return self.mean.needs

    @property
    def companions(self) -> Mapping[str, float]:
        """None: mu follows from the record of the rounds."""
        return self.mean.companions

    def weight(self, *, cases: int, steps: int) -> float:
        """Training cases, steps or one."""
        return self.mean.weight(cases=cases, steps=steps)

    def arguments(self, losses: Iterable[float]) -> RoundArguments:
        """The mu of the next round."""
        return RoundArguments(mu=self._adapted(losses))

    def step(self, tensor: Tensor64, *, mean: Mean, companions: Companions) -> Stepped:
        """Global plus mean update."""
        return self.mean.step(tensor, mean=mean, companions=companions)

    def _adapted(self, losses: Iterable[float]) -> float:
        mu, falling = self.mu, 0
        for before, after in pairwise(losses):
            falling = falling + 1 if after < before else 0
            if after > before:
                mu += self.mu_step
            elif falling == self.falling_rounds:
                mu, falling = max(0.0, mu - self.mu_step), 0
            mu = round(mu, _DECIMALS)
        return mu
