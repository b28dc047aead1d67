"""From a study's strategy section to its `Strategy`."""

from typing import assert_never

from fedvol.config import strategy as config
from fedvol.federation.adaptive_mu import AdaptiveProximal
from fedvol.federation.scaffold import ControlledMean
from fedvol.federation.server_optimiser import ServerAdaptive, ServerMomentum
from fedvol.federation.strategy import Strategy, WeightedMean


def build_strategy(settings: config.Strategy) -> Strategy:
    """The server's half of the strategy a study names.

    FedProx differs in the sites' steps and FedBN in what travels; the server does as in FedAvg.
    """
    match settings:
        case config.FedAvg() | config.FedProx() | config.FedBN():
            return WeightedMean(weighting=settings.weighting)
        case config.AdaptiveFedProx():
            return AdaptiveProximal(
                mean=WeightedMean(weighting=settings.weighting),
                mu=settings.mu,
                mu_step=settings.mu_step,
                falling_rounds=settings.falling_rounds,
            )
        case config.FedAvgM():
            return ServerMomentum(
                weighting=settings.weighting,
                learning_rate=settings.server_learning_rate,
                momentum=settings.momentum,
            )
        case config.FedAdam() | config.FedYogi():
            return ServerAdaptive(
                weighting=settings.weighting,
                rule="adam" if isinstance(settings, config.FedAdam) else "yogi",
                learning_rate=settings.server_learning_rate,
                betas=settings.betas,
                tau=settings.tau,
            )
        case config.Scaffold():
            return ControlledMean(weighting=settings.weighting)
        case _:
            assert_never(settings)
