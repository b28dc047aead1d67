"""How sites' updates become one global model."""

from typing import Annotated, Literal

from pydantic import Field

from fedvol.config.base import Section
from fedvol.config.learning import Training


class _Strategy(Section):
    weighting: Literal["cases", "steps", "equal"] = "cases"
    """What a site's update counts by: training cases, local steps, or one each."""


class FedAvg(_Strategy):
    """Weighted mean of all weights (McMahan et al. 2017)."""

    kind: Literal["fedavg"]


class FedProx(_Strategy):
    """FedAvg with (mu/2) ||w - w_t||^2 added to each local loss (Li et al. 2020)."""

    kind: Literal["fedprox"]
    mu: Annotated[float, Field(ge=0, le=100)] = 1e-2
    """Pull towards the global weights; 0 is FedAvg bit for bit."""


class FedBN(_Strategy):
    """FedAvg of everything but norm layers, which stay at their site (Li et al. 2021).

    A site that has no norm state of its own, such as one that joins later or an external one,
    uses the mean of the training sites' affine norm weights, gathered once when the stage ends;
    until then, the initial ones.
    """

    kind: Literal["fedbn"]


Strategy = Annotated[FedAvg | FedProx | FedBN, Field(discriminator="kind")]


class Finetune(Section):
    """Supervised training on the sites' labelled cases."""

    kind: Literal["finetune"]
    strategy: Strategy
    """How updates are combined."""
    rounds: Annotated[int, Field(ge=1, le=100_000)]
    """Rounds of the stage."""
    steps_per_round: Annotated[int, Field(ge=1, le=1_000_000)]
    """Local gradient steps of each site in a round."""
    training: Training
    """Local optimisation."""


Stage = Finetune


class Participation(Section):
    """Who must take part, and how long anybody waits."""

    min_sites: Annotated[int, Field(ge=1, le=10_000)] = 2
    """Fewest sites whose updates may form a round; below it the round is abandoned."""
    max_abandoned_rounds: Annotated[int, Field(ge=0, le=1000)] = 2
    """Abandoned rounds in a row after which the run fails."""
    train_limit_s: Annotated[float, Field(gt=0, le=30 * 86400)] = 6 * 3600.0
    """Longest wait for a site's update, seconds."""
    evaluate_limit_s: Annotated[float, Field(gt=0, le=30 * 86400)] = 3600.0
    """Longest wait for a site's evaluation, seconds."""
