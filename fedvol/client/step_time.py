"""How long one training step of a plan takes on this machine, measured on random patches."""

from typing import Final, final

import torch

from fedvol.data.batch import Batch
from fedvol.models import initial_network
from fedvol.plan import Plan, class_names, derive_seed
from fedvol.tasks import build_objective
from fedvol.training import Window, place, threads, train

NUM_STEPS: Final = 3
"""Steps that are timed, after one that is not: the first also builds what later ones reuse."""


def seconds_per_step(plan: Plan, *, device: str) -> float:
    """Mean seconds of a training step of the plan's finetune stage, data aside.

    Args:
        plan: The plan.
        device: Where to train: `cpu` or `cuda`.
    """
    stage = plan.study.finetune
    on = torch.device(device)
    net = initial_network(plan.study)
    place(net, training=stage.training, device=on)
    source = _RandomPatches(plan, device=on)
    objective = build_objective(plan.study.task, num_classes=len(class_names(plan.study.data)) + 1)

    def steps(count: int) -> float:
        return train(
            net,
            objective=objective,
            batches=source,
            config=stage.training,
            window=Window(first_step=0, num_steps=count, total_steps=count),
            device=on,
        ).seconds

    with threads(stage.training.num_threads):
        steps(1)
        return steps(NUM_STEPS) / NUM_STEPS


@final
class _RandomPatches:
    def __init__(self, plan: Plan, *, device: torch.device) -> None:
        patches, data = plan.study.patches, plan.study.data
        generator = torch.Generator().manual_seed(derive_seed(plan.digest, "step time"))
        shape = (patches.batch_size, len(data.channels), *patches.size)
        self._batch = Batch(
            image=torch.randn(shape, generator=generator).to(device),
            label=torch.randint(
                0,
                len(class_names(data)) + 1,
                (patches.batch_size, *patches.size),
                generator=generator,
            ).to(device),
        )

    def batch(self, step: int) -> Batch:
        """The same patches every step."""
        del step
        return self._batch
