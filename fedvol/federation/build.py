"""From a study's strategy section to its `Strategy`."""

from typing import assert_never

from fedvol.config import strategy as config
from fedvol.federation.adaptive_mu import AdaptiveMu
from fedvol.federation.scaffold import ControlledMean
from fedvol.federation.server_optimiser import ServerAdaptive, ServerMomentum
from fedvol.federation.strategy import (
    AddMean,
    NothingToTell,
    Schedule,
    ServerOptimiser,
    Strategy,
)


def build_strategy(settings: config.Strategy) -> Strategy:
    """The server's half of the strategy a study names."""
    return Strategy(
        weighting=settings.weighting,
        optimiser=_optimiser(settings),
        schedule=_schedule(settings),
    )


def _optimiser(settings: config.Strategy) -> ServerOptimiser:
    """FedProx differs in the sites' steps and FedBN in what travels; the server adds the mean."""
    match settings:
        case config.FedAvg() | config.FedProx() | config.AdaptiveFedProx() | config.FedBN():
            return AddMean()
        case config.FedAvgM():
            return ServerMomentum(
                learning_rate=settings.server_learning_rate, momentum=settings.momentum
            )
        case config.FedAdam() | config.FedYogi():
            return ServerAdaptive(
                rule="adam" if isinstance(settings, config.FedAdam) else "yogi",
                learning_rate=settings.server_learning_rate,
                betas=settings.betas,
                tau=settings.tau,
            )
        case config.Scaffold():
            return ControlledMean()
        case _:
            assert_never(settings)


def _schedule(settings: config.Strategy) -> Schedule:
    match settings:
        case config.AdaptiveFedProx():
            return AdaptiveMu(
                mu=settings.mu,
                mu_step=settings.mu_step,
                falling_rounds=settings.falling_rounds,
            )
        case _:
            return NothingToTell()
