"""What the keys of a stage must be to each other and to the network."""

from collections.abc import Iterator

from fedvol.config.learning import Sgd, Training
from fedvol.config.network import Network
from fedvol.config.open_study import OpenNetwork
from fedvol.config.strategy import AdaptiveFedProx, FedBN, FedProx, Stage
from fedvol.errors import Problem

_FIRST_CHANGE = 3
"""Round in which mu can first have changed: two losses must be known."""


def strategy_on_network(
    stages: tuple[Stage, ...], network: Network | OpenNetwork
) -> Iterator[Problem]:
    """FedBN needs norm layers."""
    for index, stage in enumerate(stages):
        if isinstance(stage.strategy, FedBN) and network.norm == "none":
            yield Problem(
                where=f"stages[{index}].strategy.kind",
                what="fedbn keeps norm layers at their site, but the network has none",
                fix='Set network.norm to "instance", or use "fedavg".',
            )


def stages_alone(stages: tuple[Stage, ...]) -> Iterator[Problem]:
    """Settings without effect, and pulls that overshoot."""
    for index, stage in enumerate(stages):
        where = f"stages[{index}].strategy"
        strategy = stage.strategy
        if isinstance(strategy, FedProx | AdaptiveFedProx):
            yield from _overshoot(f"{where}.mu", strategy.mu, stage.training)
        if isinstance(strategy, AdaptiveFedProx) and stage.rounds < _FIRST_CHANGE:
            yield Problem(
                where=f"{where}.kind",
                what=f"mu cannot change before round {_FIRST_CHANGE}, and the stage has "
                f"{stage.rounds}",
                fix=f'Use {_FIRST_CHANGE} rounds or more, or "fedprox".',
            )


def _overshoot(where: str, strength: float, training: Training) -> Iterator[Problem]:
    """A plain gradient step along a quadratic pull is only stable while the product is small."""
    optimiser = training.optimiser
    if isinstance(optimiser, Sgd) and strength * optimiser.learning_rate > 1:
        yield Problem(
            where=where,
            what=f"{strength:g} times the learning rate {optimiser.learning_rate:g} is above 1, "
            "so that a step jumps past the global weights it is pulled to",
            fix=f"Use a pull up to {1 / optimiser.learning_rate:g}, or a lower learning rate.",
        )
