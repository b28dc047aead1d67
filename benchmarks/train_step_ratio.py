"""What the training loop costs beside a bare PyTorch loop of the same steps."""

from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.measurement import Measurement, Size, in_turns
from fedvol.config.learning import AdamW, SegmentationTask, Training
from fedvol.config.network import UNet
from fedvol.data.batch import Batch
from fedvol.models import build_network
from fedvol.tasks import build_objective
from fedvol.training import Objective, Window, threads, train

_NUM_CLASSES = 3
_NUM_THREADS = 1
_AGREEMENT = 1e-3
_TRAINING = Training(
    optimiser=AdamW(kind="adamw"), poly_power=0.0, num_threads=_NUM_THREADS, checkpoint_every_s=1e6
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    features: tuple[int, ...]
    side: int
    batch_size: int
    steps: int
    repeats: int


_CASES: dict[Size, _Case] = {
    "tiny": _Case(features=(4, 8), side=8, batch_size=1, steps=2, repeats=1),
    "default": _Case(features=(16, 32, 64), side=32, batch_size=2, steps=5, repeats=7),
    "large": _Case(features=(32, 64, 128, 256), side=64, batch_size=2, steps=10, repeats=5),
}


class _Held:
    """Batches made beforehand, so that only the loop is measured; a `BatchSource`."""

    def __init__(self, case: _Case) -> None:
        generator = torch.Generator().manual_seed(7)
        sides = (case.batch_size, case.side, case.side, case.side)
        self._batches: list[Batch] = []
        for _ in range(case.steps):
            label = torch.randint(0, _NUM_CLASSES, sides, generator=generator)
            noise = torch.randn(sides, generator=generator)
            image = (label + noise)[:, None].contiguous(memory_format=torch.channels_last_3d)
            self._batches.append(Batch(image=image, label=label))

    def batch(self, step: int) -> Batch:
        return self._batches[step]


def measure(size: Size) -> Measurement:
    """Seconds of the bare loop over ours; 1 is no cost."""
    case = _CASES[size]
    batches = _Held(case)
    objective = build_objective(SegmentationTask(kind="segmentation"), num_classes=_NUM_CLASSES)
    with threads(_NUM_THREADS):
        found = _ours(case, objective, batches)
        expected = _bare(case, objective, batches)
        assert abs(found - expected) <= _AGREEMENT * expected, (found, expected)
        paired = in_turns(
            lambda: _ours(case, objective, batches),
            baseline=lambda: _bare(case, objective, batches),
            repeats=case.repeats,
        )
    return Measurement(
        name="train_step_ratio",
        value=paired.speedup,
        unit="ratio",
        baseline="bare PyTorch loop: forward, same loss, backward, clip, torch.optim.AdamW",
        detail={
            "features": str(case.features),
            "patch": f"{case.side}^3",
            "batch": case.batch_size,
            "steps": case.steps,
            "threads": _NUM_THREADS,
            "loss": found,
            **paired.detail(),
        },
    )


def _network(case: _Case) -> nn.Module:
    return build_network(
        UNet(kind="unet", features=case.features), in_channels=1, num_classes=_NUM_CLASSES
    )


def _ours(case: _Case, objective: Objective, batches: _Held) -> float:
    result = train(
        _network(case),
        objective=objective,
        batches=batches,
        config=_TRAINING,
        window=Window(first_step=0, num_steps=case.steps, total_steps=case.steps),
        device=torch.device("cpu"),
    )
    return result.loss


def _bare(case: _Case, objective: Objective, batches: _Held) -> float:
    net = _network(case)
    net.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]  # stub gap
    net.train()
    settings = _TRAINING.optimiser
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    total = 0.0
    for step in range(case.steps):
        optimiser.zero_grad()
        loss = objective.loss(net, batches.batch(step))
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), _TRAINING.clip_grad_norm)
        optimiser.step()
        total += loss.item()
    return total / case.steps
