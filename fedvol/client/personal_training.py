"""One round of training a site's own model; only how it went is told."""

import torch

from fedvol.client.local_state import LocalState
from fedvol.client.local_training import (
    OnStep,
    keep,
    load_global,
    report_of,
    take_steps,
)
from fedvol.config.strategy import Ditto, Personalise
from fedvol.data.batch import BatchSource
from fedvol.errors import PlanMismatchError
from fedvol.federation import Exchange, Request, RoundArguments, TrainReport
from fedvol.models import load_arrays
from fedvol.plan import Plan
from fedvol.training import Pull, only_trained
from fedvol.types import State


def personalise_round(
    request: Request,
    *,
    net: torch.nn.Module,
    plan: Plan,
    stage: Personalise,
    exchange: Exchange,
    start: State,
    num_cases: int,
    batches: BatchSource,
    state: LocalState,
    device: torch.device,
    on_step: OnStep,
) -> TrainReport:
    """Train a site's own model for one round, from where its last round left it.

    Args:
        request: The round.
        net: The site's network; its weights are replaced.
        plan: The run's plan.
        stage: The stage of the plan.
        exchange: Its `local` tensors are trained and kept.
        start: The released state as this site uses it; first weights, and Ditto's anchor.
        num_cases: The site's training cases.
        batches: Batches drawn from them.
        state: The site's files of this run and stage.
        device: Where to train.
        on_step: Called with step, steps of the round, loss.

    Raises:
        TimeLimitError: The request's limit passed before the last step.
        TrainingDivergedError: The loss became NaN or infinite.
    """
    load_arrays(net, start)
    strength = stage.method.pull if isinstance(stage.method, Ditto) else 0.0
    pull = Pull(strength=strength, net=net) if strength else None
    load_global(net, start, exchange=exchange, state=state, initial={}, up_to=request.round - 1)
    with only_trained(net, {spec.name for spec in exchange.local}):
        result = take_steps(
            request,
            net=net,
            plan=plan,
            batches=batches,
            state=state,
            device=device,
            correction=pull,
            on_step=on_step,
        )
    keep(request, net=net, plan=plan, exchange=exchange, state=state, result=result)
    return report_of(result, num_cases=num_cases)


def personal_start(request: Request, *, finetune: Exchange, state: LocalState) -> State:
    """The release as a site uses it: over the tensors that it kept when it was made.

    Args:
        request: Brings the release, and the round it comes from.
        finetune: The exchange of the stage that made it.
        state: The site's files of that stage.

    Raises:
        PlanMismatchError: The request does not name the round.
    """
    start_round = RoundArguments.of(request).start_round
    if start_round is None:
        raise PlanMismatchError(
            f"site {request.site}, round {request.round}",
            "the request does not say which round was released",
            "Bring server and site to one fedvol version.",
        )
    own = state.local_tensors(up_to=start_round, exchange=finetune)
    return {**request.state, **(own or {})}
