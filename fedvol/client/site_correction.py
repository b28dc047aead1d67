"""What a strategy changes of a site's gradients, and what the site must send back for it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedvol.client.local_state import LocalState
from fedvol.config import strategy as config
from fedvol.errors import PlanMismatchError
from fedvol.federation import CONTROL, Exchange, Request, RoundArguments, companion_name
from fedvol.plan import TensorSpec
from fedvol.training import ControlVariate, Correction, Pull
from fedvol.types import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """SCAFFOLD in one round at one site.

    Attributes:
        variate: Corrects the gradients and gathers the site's next c_i.
        own: c_i of the last round whose contribution was taken, by tensor.
        last_taken: That round; 0 for none.
    """

    variate: ControlVariate
    own: State
    last_taken: int

    def finish(
        self, *, specs: tuple[TensorSpec, ...], state: LocalState, round_index: int
    ) -> Mapping[str, NDArray[np.generic]]:
        """Keep the next c_i at the site; its update under the names in which it travels."""
        gradient = self.variate.mean_gradient()
        state.save_control(gradient, round=round_index, last_taken=self.last_taken)
        return {
            companion_name(CONTROL, spec.name): np.subtract(
                gradient[spec.name], self.own[spec.name], dtype=np.float32
            )
            for spec in specs
            if spec.trainable
        }


def proximal_mu(strategy: config.Strategy, request: Request) -> float:
    """Strength of the pull towards the global weights in a round; 0 for none.

    Raises:
        PlanMismatchError: The request brings a mu that the plan does not ask for, or lacks it.
    """
    told = RoundArguments.of(request).mu
    if isinstance(strategy, config.AdaptiveFedProx) != (told is not None):
        raise PlanMismatchError(
            f"site {request.site}, round {request.round}",
            "the request has no mu" if told is None else "the request brings a mu of its own",
            "Bring server and site to one fedvol version.",
        )
    if told is not None:
        return told
    return strategy.mu if isinstance(strategy, config.FedProx) else 0.0


def site_control(
    request: Request, *, net: torch.nn.Module, exchange: Exchange, state: LocalState
) -> Control | None:
    """The control variates of a round; None where the exchange has none.

    Raises:
        PlanMismatchError: The request does not say which of the site's rounds counted.
        CheckpointError: The control variate of that round is not there.
    """
    if CONTROL not in exchange.companions:
        return None
    last_taken = RoundArguments.of(request).control_round
    if last_taken is None:
        raise PlanMismatchError(
            f"site {request.site}, round {request.round}",
            "the request does not say which round's control variate counts",
            "Bring server and site to one fedvol version.",
        )
    trained = [spec for spec in exchange.shared if spec.trainable]
    zeros = {spec.name: np.zeros(spec.shape, dtype=np.float32) for spec in trained}
    own = state.control(round=last_taken) or zeros
    shared = {spec.name: request.state[companion_name(CONTROL, spec.name)] for spec in trained}
    return Control(
        variate=ControlVariate(net=net, shared=shared, own=own), own=own, last_taken=last_taken
    )


def correction_of(
    request: Request, *, strategy: config.Strategy, net: torch.nn.Module, control: Control | None
) -> Correction | None:
    """What changes the gradients of a round; the network holds the round's global weights."""
    if control is not None:
        return control.variate
    mu = proximal_mu(strategy, request)
    return Pull(strength=mu, net=net) if mu else None
