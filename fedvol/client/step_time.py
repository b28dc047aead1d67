"""How long a training step of each stage takes on this machine, measured on random patches."""

from typing import Final, final

import torch
from torch import nn

from fedvol.config.strategy import Pretrain, Stage
from fedvol.data.batch import AnyBatch, Batch, BatchSource, UnlabelledBatch
from fedvol.models import initial_network
from fedvol.plan import Plan, class_names, derive_seed
from fedvol.ssl import (
    build_pretext,
    initial_pretext_network,
    pretext_batch_size,
    pretext_patch,
)
from fedvol.tasks import build_objective
from fedvol.training import Objective, Window, place, threads, train

NUM_STEPS: Final = 3
"""Steps that are timed, after one that is not: the first also builds what later ones reuse."""


def seconds_per_step(plan: Plan, *, device: str) -> tuple[float, ...]:
    """Mean seconds of a training step of each stage of a plan, data aside.

    A personal model is that of finetuning, and so is its step.

    Args:
        plan: The plan.
        device: Where to train: `cpu` or `cuda`.
    """
    on = torch.device(device)
    finetune = _finetune(plan, device=on)
    return tuple(
        _pretrain(plan, stage, device=on) if isinstance(stage, Pretrain) else finetune
        for stage in plan.study.stages
    )


def _finetune(plan: Plan, *, device: torch.device) -> float:
    study, patches = plan.study, plan.study.patches
    num_classes = len(class_names(study.data)) + 1
    generator = _generator(plan)
    shape = (patches.batch_size, len(study.data.channels), *patches.size)
    labels = torch.randint(0, num_classes, (patches.batch_size, *patches.size), generator=generator)
    batch = Batch(image=torch.randn(shape, generator=generator).to(device), label=labels.to(device))
    return _timed(
        initial_network(study),
        build_objective(study.task, num_classes=num_classes),
        _Same(batch),
        stage=study.finetune,
        device=device,
    )


def _pretrain(plan: Plan, stage: Pretrain, *, device: torch.device) -> float:
    study = plan.study
    num_patches = pretext_batch_size(study, stage) * (2 if stage.task.needs_pairs else 1)
    shape = (num_patches, len(study.data.channels), *pretext_patch(study, stage))
    image = torch.randn(shape, generator=_generator(plan)).to(device)
    return _timed(
        initial_pretext_network(study, stage),
        build_pretext(stage.task),
        _Same(UnlabelledBatch(image=image, seed=0)),
        stage=stage,
        device=device,
    )


def _timed(
    net: nn.Module,
    objective: Objective[AnyBatch],
    batches: BatchSource[AnyBatch],
    *,
    stage: Stage,
    device: torch.device,
) -> float:
    place(net, training=stage.training, device=device)

    def steps(count: int) -> float:
        return train(
            net,
            objective=objective,
            batches=batches,
            config=stage.training,
            window=Window(first_step=0, num_steps=count, total_steps=count),
            device=device,
        ).seconds

    with threads(stage.training.num_threads):
        steps(1)
        return steps(NUM_STEPS) / NUM_STEPS


def _generator(plan: Plan) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(plan.digest, "step time"))


@final
class _Same(BatchSource[AnyBatch]):
    def __init__(self, batch: AnyBatch) -> None:
        self._batch = batch

    def batch(self, step: int) -> AnyBatch:
        """The same patches every step."""
        del step
        return self._batch
