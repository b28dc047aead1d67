"""SCAFFOLD's server half: the mean control variate beside every trainable tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from fedvol.federation.companions import Companions
from fedvol.federation.exchange import CONTROL
from fedvol.federation.strategy import Mean, Stepped, Tensor64


@final
@dataclass(frozen=True, slots=True)
class ControlledMean:
    """Add the mean update, and keep c the weighted mean of all sites' control variates c_i.

    A site that did not contribute keeps its c_i, so c moves by the mean control update times the
    share of the weight that took part (algorithm 1, line 17, with weights in place of counts).

    Reference: Karimireddy et al. (2020), arXiv:1910.06378, algorithm 1 with global step size 1.
    """

    @property
    def companions(self) -> Mapping[str, float]:
        """The mean control variate c."""
        return {CONTROL: 0.0}

    def step(self, tensor: Tensor64, *, mean: Mean, companions: Companions) -> Stepped:
        """Global plus mean update; c plus the share of the mean control update."""
        control = mean.kept * companions[CONTROL] + mean.share * mean.companions[CONTROL]
        return Stepped(tensor=tensor + mean.update, companions={CONTROL: control})
