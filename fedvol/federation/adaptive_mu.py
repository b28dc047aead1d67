"""FedProx whose pull follows the training loss of all sites together."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from fedvol.federation.arguments import RoundArguments

_DECIMALS = 9
"""So that a hundred steps of 0.1 are 10 and not 9.99999999999998."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveMu:
    """A mu for every round; it follows from the record of the rounds alone.

    Attributes:
        mu: Pull of the first round.
        mu_step: How much it rises or falls.
        falling_rounds: Rounds in a row in which the loss must fall before mu does.

    Reference: Li et al. (2020), arXiv:1812.06127, section 5.3.2.
    """

    mu: float
    mu_step: float
    falling_rounds: int

    def arguments(self, losses: Iterable[float]) -> RoundArguments:
        """The mu of the next round."""
        mu, falling = self.mu, 0
        for before, after in pairwise(losses):
            falling = falling + 1 if after < before else 0
            if after > before:
                mu += self.mu_step
            elif falling == self.falling_rounds:
                mu, falling = max(0.0, mu - self.mu_step), 0
            mu = round(mu, _DECIMALS)
        return RoundArguments(mu=mu)
