"""The one training loop; what is learned is the `Objective`'s business."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedvol.config.learning import Training
from fedvol.data.batch import AnyBatch, BatchSource
from fedvol.errors import TimeLimitError
from fedvol.models import load_arrays, to_arrays
from fedvol.training.compilation import compile_errors, compiled
from fedvol.training.correction import Correction
from fedvol.training.freezing import settle_frozen_norms
from fedvol.training.layout import place
from fedvol.training.local_checkpoint import LocalCheckpoint, Progress
from fedvol.training.losses import LossRecord
from fedvol.training.objective import Objective
from fedvol.training.optimiser import LocalOptimiser, build_optimiser
from fedvol.training.schedule import poly_learning_rate
from fedvol.types import State

_READ_EVERY = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The steps of one round among those of its stage.

    Attributes:
        first_step: Steps of the stage before this round.
        num_steps: Steps of this round.
        total_steps: Steps of the whole stage.
    """

    first_step: int
    num_steps: int
    total_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a round of steps gave, beside the weights left in the network.

    Attributes:
        loss: Mean over the round's steps.
        steps: Steps of the round.
        seconds: Seconds they took, those before an interruption included.
        optimiser_state: Moments at the end, to be kept for the next round.
    """

    loss: float
    steps: int
    seconds: float
    optimiser_state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What looks on while a round is trained, and may leave it; it changes no weight.

    Attributes:
        checkpoint: Where to save progress every `checkpoint_every_s`; None for nowhere.
        on_step: Called for each step, in order, with the steps done in the window and the loss;
            several at once where reading the loss would stall the device.
        should_stop: Asked after each step; if true, progress is saved and the round is left.
    """

    checkpoint: LocalCheckpoint | None = None
    on_step: Callable[[int, float], None] = lambda _step, _loss: None
    should_stop: Callable[[], bool] = lambda: False


UNWATCHED = Watch()
"""Nothing is saved, told or asked."""


def train(
    net: nn.Module,
    *,
    objective: Objective[AnyBatch],
    batches: BatchSource[AnyBatch],
    config: Training,
    window: Window,
    device: torch.device,
    optimiser_state: State | None = None,
    correction: Correction | None = None,
    watch: Watch = UNWATCHED,
) -> TrainResult:
    """Train a network in place for the steps of a window.

    A local checkpoint that is there already is taken up: the result has the bits of a run that
    was never interrupted. It is not removed at the end. The caller sets the number of threads
    (`threads`).

    Args:
        net: Holds the weights to start from; moved to the device.
        objective: Gives the loss of a batch.
        batches: Gives the batch of a step, as a function of the step alone.
        config: Optimiser, schedule, clipping, precision, layout, compiling.
        window: Which steps.
        device: Where to train.
        optimiser_state: Moments to start from; None starts anew.
        correction: Changes gradients before they are clipped; None for nothing.
        watch: Saves progress, hears of steps, and may stop them.

    Raises:
        TrainingDivergedError: A loss or a gradient became NaN or infinite.
        TimeLimitError: `watch.should_stop` said so.
        CompileError: The network is to be compiled and cannot be.
        CheckpointError: Checkpoint or optimiser state belong to another network, plan or round.
    """
    began = time.monotonic()
    layout = place(net, training=config, device=device)
    net.train()
    settle_frozen_norms(net)
    learner = _Learner(
        net=net,
        applied=compiled(net) if config.compile else net,
        optimiser=build_optimiser(config.optimiser, net=net),
        correction=correction,
    )
    held = learner.start(optimiser_state, checkpoint=watch.checkpoint)
    began -= held.seconds
    losses = LossRecord(
        total=held.loss_sum,
        read_every=1 if device.type == "cpu" else _READ_EVERY,
        on_step=watch.on_step,
    )

    def save(done: int) -> None:
        if watch.checkpoint is not None:
            losses.read()
            watch.checkpoint.save(
                learner.progress(done, loss_sum=losses.total, seconds=time.monotonic() - began)
            )

    saved_at = time.monotonic()
    for done in range(held.steps + 1, window.num_steps + 1):
        step = window.first_step + done - 1
        batch = batches.batch(step).to(device, layout=layout)
        rate = _learning_rate(step, config=config, window=window)
        loss, grad_norm = learner.descend(objective, batch, config=config, learning_rate=rate)
        losses.add(done, loss=loss, grad_norm=grad_norm)
        if done < window.num_steps and watch.should_stop():
            save(done)
            raise _left(done, of=window.num_steps)
        if time.monotonic() - saved_at >= config.checkpoint_every_s:
            save(done)
            saved_at = time.monotonic()
    losses.read()
    return TrainResult(
        loss=losses.total / window.num_steps,
        steps=window.num_steps,
        seconds=time.monotonic() - began,
        optimiser_state=learner.optimiser.to_arrays(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learner:
    """A network with everything that changes it: what a local checkpoint has to hold."""

    net: nn.Module
    applied: nn.Module
    """The network, or what stands for it in forward and backward."""
    optimiser: LocalOptimiser
    correction: Correction | None

    def start(
        self, optimiser_state: State | None, *, checkpoint: LocalCheckpoint | None
    ) -> Progress:
        """Take up what the checkpoint holds; without one begin with these moments."""
        held = checkpoint.load() if checkpoint is not None else None
        if held is None:
            self.optimiser.load_arrays(optimiser_state or {})
            return Progress(steps=0, loss_sum=0.0, seconds=0.0, network={}, optimiser={})
        load_arrays(self.net, held.network)
        self.optimiser.load_arrays(held.optimiser)
        if self.correction is not None:
            self.correction.load_arrays(held.correction)
        return held

    def progress(self, steps: int, *, loss_sum: float, seconds: float) -> Progress:
        """Everything a later process needs to go on from here."""
        return Progress(
            steps=steps,
            loss_sum=loss_sum,
            seconds=seconds,
            network=to_arrays(self.net),
            optimiser=self.optimiser.to_arrays(),
            correction=self.correction.to_arrays() if self.correction is not None else {},
        )

    def descend(
        self,
        objective: Objective[AnyBatch],
        batch: AnyBatch,
        *,
        config: Training,
        learning_rate: float,
    ) -> tuple[Tensor, Tensor | None]:
        """One step: its loss, and the norm of its gradient before clipping where it is clipped."""
        with compile_errors() if config.compile else nullcontext():
            with torch.autocast(
                batch.image.device.type,
                dtype=torch.bfloat16,
                enabled=config.precision == "bfloat16",
            ):
                loss = objective.loss(self.applied, batch)
            loss.backward()
        if self.correction is not None:
            self.correction.correct(self.net)
        grad_norm = None
        if config.clip_grad_norm > 0:
            grad_norm = nn.utils.clip_grad_norm_(self.net.parameters(), config.clip_grad_norm)
        self.optimiser.step(learning_rate=learning_rate)
        return loss, grad_norm


def _learning_rate(step: int, *, config: Training, window: Window) -> float:
    return poly_learning_rate(
        config.optimiser.learning_rate,
        step=step,
        total_steps=window.total_steps,
        power=config.poly_power,
    )


def _left(done: int, *, of: int) -> TimeLimitError:
    return TimeLimitError(
        "local training",
        f"stopped after step {done} of {of}",
        "Ask for the round again; it goes on from the local checkpoint.",
    )
