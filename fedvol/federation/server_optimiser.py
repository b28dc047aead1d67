"""Optimisers at the server: the mean update takes the place of a (negative) gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, assert_never, final

import numpy as np

from fedvol.federation.companions import Companions
from fedvol.federation.strategy import Mean, Stepped, Tensor64

MOMENTUM = "momentum"
FIRST_MOMENT, SECOND_MOMENT = "first_moment", "second_moment"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMomentum:
    """FedAvgM: v = beta v + mean update, w = w + learning rate v.

    Attributes:
        learning_rate: Step along the momentum.
        momentum: beta; 0 with learning rate 1 is the weighted mean, bit for bit.

    Reference: Hsu et al. (2019), arXiv:1909.06335, section 4.2.
    """

    learning_rate: float
    momentum: float

    @property
    def companions(self) -> Mapping[str, float]:
        """The momentum v."""
        return {MOMENTUM: 0.0}

    def step(self, tensor: Tensor64, *, mean: Mean, companions: Companions) -> Stepped:
        """A step along the momentum."""
        momentum = self.momentum * companions[MOMENTUM] + mean.update
        return Stepped(
            tensor=tensor + self.learning_rate * momentum, companions={MOMENTUM: momentum}
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAdaptive:
    """FedAdam and FedYogi: w = w + learning rate m / (sqrt(v) + tau), without bias correction.

    Attributes:
        rule: How the second moment v follows the squared mean update.
        learning_rate: eta.
        betas: Decay of the first and second moment.
        tau: Degree of adaptivity; v starts at its square.

    Reference: Reddi et al. (2021), arXiv:2003.00295, algorithm 2.
    """

    rule: Literal["adam", "yogi"]
    learning_rate: float
    betas: tuple[float, float]
    tau: float

    @property
    def companions(self) -> Mapping[str, float]:
        """Both moments; algorithm 2 asks that v begin at tau squared or more."""
        return {FIRST_MOMENT: 0.0, SECOND_MOMENT: self.tau**2}

    def step(self, tensor: Tensor64, *, mean: Mean, companions: Companions) -> Stepped:
        """A step along the first moment, divided by the root of the second."""
        first = self.betas[0] * companions[FIRST_MOMENT] + (1 - self.betas[0]) * mean.update
        second = self._second(companions[SECOND_MOMENT], np.square(mean.update))
        return Stepped(
            tensor=tensor + self.learning_rate * first / (np.sqrt(second) + self.tau),
            companions={FIRST_MOMENT: first, SECOND_MOMENT: second},
        )

    def _second(self, moment: Tensor64, square: Tensor64) -> Tensor64:
        decay = self.betas[1]
        match self.rule:
            case "adam":
                return decay * moment + (1 - decay) * square
            case "yogi":
                return moment - (1 - decay) * square * np.sign(moment - square)
            case _:
                assert_never(self.rule)
