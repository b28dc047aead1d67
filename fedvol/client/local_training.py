"""One round of training at one site: global state in, update out."""

import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Generic

import numpy as np
import torch

from fedvol.client.local_state import LocalState
from fedvol.client.site_correction import correction_of, site_control
from fedvol.config.strategy import Finetune, Pretrain, Stage
from fedvol.data.batch import AnyBatch, BatchSource
from fedvol.errors import PlanMismatchError
from fedvol.federation import Exchange, Request, TrainReport
from fedvol.models import load_arrays, to_arrays
from fedvol.plan import Plan
from fedvol.privacy import Update
from fedvol.training import (
    Correction,
    LocalCheckpoint,
    Objective,
    TrainResult,
    Watch,
    Window,
    only_trained,
    threads,
    train,
)
from fedvol.types import State

OnStep = Callable[[int, int, float], None]
"""Called with step, steps of the round, loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteWork(Generic[AnyBatch]):
    """What a site trains with in one stage, and where it keeps what stays.

    Attributes:
        net: The site's network; its weights are replaced.
        plan: The run's plan.
        exchange: Which tensors are shared, and which are the site's own.
        num_cases: The site's training cases.
        objective: What is learned.
        batches: Batches drawn from the cases.
        only: Tensors that learn; None: all of them.
        moments_since: Round from which moments are taken up; those of rounds before are of
            other tensors.
        state: The site's files of this run and stage.
        device: Where to train.
        on_step: Called with step, steps of the round, loss.
    """

    net: torch.nn.Module
    plan: Plan
    exchange: Exchange
    num_cases: int
    objective: Objective[AnyBatch]
    batches: BatchSource[AnyBatch]
    state: LocalState
    device: torch.device
    on_step: OnStep
    only: Collection[str] | None = None
    moments_since: int = 1


def train_round(request: Request, *, work: SiteWork[AnyBatch], initial: State) -> Update:
    """Train a site's network for one round, from the global state over its local one.

    Args:
        request: The round, with the shared tensors of the global state.
        work: What the site trains with.
        initial: Local tensors of a site that has none yet.

    Returns:
        Local minus global weights, float32, one array per shared tensor, with the updates of
        what else travels; and how it went.

    Raises:
        PlanMismatchError: The request brings other tensors or arguments than the plan names.
        TimeLimitError: The request's limit passed before the last step.
        TrainingDivergedError: The loss became NaN or infinite.
    """
    net, exchange, state = work.net, work.exchange, work.state
    require_planned(request, exchange=exchange)
    load_global(
        net,
        {spec.name: request.state[spec.name] for spec in exchange.shared},
        exchange=exchange,
        state=state,
        initial=initial,
        up_to=request.round - 1,
    )
    control = site_control(request, net=net, exchange=exchange, state=state)
    stage = work.plan.study.stages[request.stage]
    assert isinstance(stage, Pretrain | Finetune)
    correction = correction_of(request, strategy=stage.strategy, net=net, control=control)
    with nullcontext() if work.only is None else only_trained(net, work.only):
        result = take_steps(request, work=work, correction=correction)
    shared = to_arrays(net, [spec.name for spec in exchange.shared])
    tensors = {
        name: np.subtract(shared[name], request.state[name], dtype=np.float32) for name in shared
    }
    if control is not None:
        tensors |= control.finish(specs=exchange.shared, state=state, round_index=request.round)
    keep(request, work=work, result=result)
    return Update(tensors=tensors, report=report_of(result, num_cases=work.num_cases))


def take_steps(
    request: Request, *, work: SiteWork[AnyBatch], correction: Correction | None
) -> TrainResult:
    """The steps of a round, from the weights in the network, or from the local checkpoint.

    Args:
        request: The round.
        work: What the site trains with; its network holds the weights to start from.
        correction: What changes the gradients.

    Raises:
        TimeLimitError: The request's limit passed before the last step.
        TrainingDivergedError: The loss became NaN or infinite.
    """
    stage, state = work.plan.study.stages[request.stage], work.state
    window = _window(stage, request.round)
    deadline_s = time.monotonic() + request.limit_s
    keeps_moments = stage.training.optimiser_state == "keep"
    watch = Watch(
        checkpoint=LocalCheckpoint(
            state.folder / f"round-{request.round:06d}.progress",
            plan=work.plan.digest,
            stage=request.stage,
            round=request.round,
        ),
        on_step=lambda step, loss: work.on_step(step, window.num_steps, loss),
        should_stop=lambda: time.monotonic() > deadline_s,
    )
    with threads(stage.training.num_threads):
        return train(
            work.net,
            objective=work.objective,
            batches=work.batches,
            config=stage.training,
            window=window,
            device=work.device,
            optimiser_state=state.optimiser(since=work.moments_since, up_to=request.round - 1)
            if keeps_moments
            else None,
            correction=correction,
            watch=watch,
        )


def keep(request: Request, *, work: SiteWork[AnyBatch], result: TrainResult) -> None:
    """Write what stays at the site after a round; the local checkpoint goes then.

    Raises:
        DiskFullError: No space is left.
    """
    keeps_moments = work.plan.study.stages[request.stage].training.optimiser_state == "keep"
    work.state.save(
        round=request.round,
        local=to_arrays(work.net, [spec.name for spec in work.exchange.local]),
        optimiser=result.optimiser_state if keeps_moments else None,
    )


def report_of(result: TrainResult, *, num_cases: int) -> TrainReport:
    """What a site says of a round of training."""
    return TrainReport(
        cases=num_cases, steps=result.steps, train_seconds=result.seconds, loss=result.loss
    )


def load_global(
    net: torch.nn.Module,
    shared: State,
    *,
    exchange: Exchange,
    state: LocalState,
    initial: State,
    up_to: int,
) -> None:
    """Load the global state over the site's local one.

    Local tensors come from the site's last round up to `up_to`. A site that has none uses those
    that `shared` carries (the mean of the training sites, at the end of a stage), else `initial`.
    """
    local = state.local_tensors(up_to=up_to, exchange=exchange)
    load_arrays(net, {**initial, **shared, **(local or {})})


def require_planned(request: Request, *, exchange: Exchange) -> None:
    """Refuse to train on anything but what the plan lets travel."""
    if set(request.state) != {spec.name for spec in exchange.down}:
        raise PlanMismatchError(
            f"site {request.site}, round {request.round}",
            "the request brings other tensors than the plan lets travel",
            "Bring server and site to one fedvol version.",
        )


def _window(stage: Stage, round_index: int) -> Window:
    return Window(
        first_step=(round_index - 1) * stage.steps_per_round,
        num_steps=stage.steps_per_round,
        total_steps=stage.rounds * stage.steps_per_round,
    )
