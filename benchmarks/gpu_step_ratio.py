"""Steps a second of the training loop on a GPU beside a bare loop, each setting on and off."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.measurement import Measurement, Paired, Size, Skipped
from fedvol.config.learning import SegmentationTask, Sgd, Training
from fedvol.config.network import Network, ResidualEncoderPreset, ResidualEncoderUNet
from fedvol.data.batch import Batch
from fedvol.errors import CompileError
from fedvol.models import build_network
from fedvol.tasks import build_objective
from fedvol.training import Window, compiled, place, threads, train

_NAME = "gpu_step_ratio"
_BASELINE = "bare PyTorch loop, same settings: forward, same loss, backward, clip, torch.optim.SGD"
_NUM_CLASSES = 3
_NUM_THREADS = 1
_MOST_STEPS = 10**6
_OBJECTIVE = build_objective(SegmentationTask(kind="segmentation"), num_classes=_NUM_CLASSES)
_SGD = Sgd(kind="sgd")

# Both loops do the same, but a GPU adds in no fixed order. What that does to the loss grows over
# the steps that precede the timed ones, and with the rounding unit: 2^-11 for convolutions in
# float32 (TF32), 2^-8 in bfloat16.
_AGREEMENT = {"float32": 2e-3, "bfloat16": 2e-2}

_ON_AND_OFF = tuple(
    Training(
        optimiser=_SGD,
        poly_power=0.0,
        num_threads=_NUM_THREADS,
        checkpoint_every_s=1e6,
        precision=precision,
        channels_last=channels_last,
        compile=is_compiled,
    )
    for is_compiled, channels_last, precision in itertools.product(
        (False, True), (True, False), ("bfloat16", "float32")
    )
)
"""What is compiled comes last: it takes longest, and the run may have a limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    network: Network
    side: int
    warm_up: int
    steps: int
    repeats: int
    settings: tuple[Training, ...] = _ON_AND_OFF


_LARGE = ResidualEncoderPreset(kind="resenc_preset", size="L")
_SMALL = ResidualEncoderUNet(kind="resenc_unet", features=(4, 6), blocks_per_stage=(1, 1))
_BATCH_SIZE = 2
_CASES: dict[Size, _Case] = {
    # Each setting once on and once off; one thing is compiled.
    "tiny": _Case(
        network=_SMALL,
        side=8,
        warm_up=1,
        steps=2,
        repeats=1,
        settings=(_ON_AND_OFF[0], _ON_AND_OFF[3], _ON_AND_OFF[5]),
    ),
    "default": _Case(network=_LARGE, side=128, warm_up=3, steps=10, repeats=3),
    "large": _Case(network=_LARGE, side=128, warm_up=5, steps=50, repeats=5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """What a loop took.

    Attributes:
        seconds: Of the timed steps.
        cpu_seconds: The same of the host's computing.
        first_seconds: Of the steps before, in which things are compiled and memory is reserved.
        first_loss: Mean over those steps.
        peak_mib: Most memory of the GPU that tensors held in the timed steps; 0 on a CPU.
    """

    seconds: float
    cpu_seconds: float
    first_seconds: float
    first_loss: float
    peak_mib: float


def measure_each(size: Size) -> Iterator[Measurement | Skipped]:
    """For each setting, seconds of the bare loop over ours; 1 is no cost.

    The smallest size runs on the CPU where there is no GPU, to prove that the code runs.
    """
    case = _CASES[size]
    if not torch.cuda.is_available() and size != "tiny":
        yield Skipped(name=_NAME, reason="no CUDA device", detail={})
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for training in case.settings:
        yield _measure(case, training, device=device)


def _measure(case: _Case, training: Training, *, device: torch.device) -> Measurement | Skipped:
    chosen = {
        "precision": training.precision,
        "channels_last": training.channels_last,
        "compile": training.compile,
    }
    try:
        with threads(_NUM_THREADS):
            first, paired, peaks = _in_turns(case, training, device=device)
    except (CompileError, torch.OutOfMemoryError) as error:
        reason = str(error).splitlines()[0]
        return Skipped(name=_NAME, reason=reason, detail=chosen)
    seconds = paired.detail()
    ours_s, bare_s = float(seconds["ours_s"]), float(seconds["baseline_s"])
    return Measurement(
        name=_NAME,
        value=paired.speedup,
        unit="ratio",
        baseline=_BASELINE,
        detail={
            **chosen,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "torch": torch.__version__,
            "parameters": sum(weight.numel() for weight in _network(case).parameters()),
            "patch": f"{case.side}^3",
            "batch": _BATCH_SIZE,
            "steps": case.steps,
            "steps_per_s": case.steps / ours_s,
            "bare_steps_per_s": case.steps / bare_s,
            "first_steps": case.warm_up,
            "first_steps_s": first.first_seconds,
            **peaks,
            "loss": first.first_loss,
            **seconds,
        },
    )


def _in_turns(
    case: _Case, training: Training, *, device: torch.device
) -> tuple[_Taken, Paired, dict[str, float]]:
    """What our loop took first, both in turns, and the peaks of both where there is a GPU."""
    batches = _Held(case, training, device=device)
    both: tuple[_Loop, _Loop] = (_ours, _bare)
    taken: tuple[list[_Taken], list[_Taken]] = ([], [])
    first, expected = (loop(case, training, batches, device) for loop in both)
    allowed = _AGREEMENT[training.precision] * abs(expected.first_loss)
    assert abs(first.first_loss - expected.first_loss) <= allowed, (first, expected)
    for repeat in range(case.repeats):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            taken[side].append(both[side](case, training, batches, device))
    ours, bare = taken
    paired = Paired(
        ours=[one.seconds for one in ours],
        baseline=[one.seconds for one in bare],
        ours_cpu=sum(one.cpu_seconds for one in ours),
        baseline_cpu=sum(one.cpu_seconds for one in bare),
    )
    if device.type == "cpu":
        return first, paired, {}
    peaks = {
        "peak_mib": max(one.peak_mib for one in ours),
        "bare_peak_mib": max(one.peak_mib for one in bare),
    }
    return first, paired, peaks


class _Held:
    """Batches that lie on the device beforehand; a `BatchSource`."""

    def __init__(self, case: _Case, training: Training, *, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(7)
        layout = torch.channels_last_3d if training.channels_last else torch.contiguous_format
        sides = (_BATCH_SIZE, case.side, case.side, case.side)
        self._batches: list[Batch] = []
        for _ in range(case.warm_up):
            label = torch.randint(0, _NUM_CLASSES, sides, generator=generator)
            image = (label + torch.randn(sides, generator=generator))[:, None]
            self._batches.append(
                Batch(image=image.to(device, memory_format=layout), label=label.to(device))
            )

    def batch(self, step: int) -> Batch:
        return self._batches[step % len(self._batches)]


_Loop = Callable[[_Case, Training, _Held, torch.device], _Taken]


def _ours(case: _Case, training: Training, batches: _Held, device: torch.device) -> _Taken:
    net = _network(case)

    def steps(first: int, num_steps: int) -> tuple[float, float]:
        result = train(
            net,
            objective=_OBJECTIVE,
            batches=batches,
            config=training,
            window=Window(first_step=first, num_steps=num_steps, total_steps=_MOST_STEPS),
            device=device,
        )
        # Its own count: moments that go to main memory after the last step are a round's matter.
        return result.seconds, result.loss

    return _timed(case, steps, device=device)


def _bare(case: _Case, training: Training, batches: _Held, device: torch.device) -> _Taken:
    net = _network(case)
    place(net, training=training, device=device)
    net.train()
    applied = compiled(net) if training.compile else net
    optimiser = torch.optim.SGD(
        net.parameters(),
        lr=_SGD.learning_rate,
        momentum=_SGD.momentum,
        weight_decay=_SGD.weight_decay,
        nesterov=True,
    )

    def steps(first: int, num_steps: int) -> tuple[float, float]:
        began = time.perf_counter()
        losses: list[Tensor] = []
        for step in range(first, first + num_steps):
            optimiser.zero_grad()
            with torch.autocast(
                device.type, dtype=torch.bfloat16, enabled=training.precision == "bfloat16"
            ):
                loss = _OBJECTIVE.loss(applied, batches.batch(step))
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), training.clip_grad_norm)
            optimiser.step()
            losses.append(loss.detach())
        mean = float(torch.stack(losses).mean())  # the GPU is waited for here and only here
        return time.perf_counter() - began, mean

    return _timed(case, steps, device=device)


def _timed(
    case: _Case, steps: Callable[[int, int], tuple[float, float]], *, device: torch.device
) -> _Taken:
    """Take the steps before, then those that count."""
    first_seconds, first_loss = steps(0, case.warm_up)
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began_cpu = time.process_time()
    seconds, _ = steps(case.warm_up, case.steps)
    return _Taken(
        seconds=seconds,
        cpu_seconds=time.process_time() - began_cpu,
        first_seconds=first_seconds,
        first_loss=first_loss,
        peak_mib=torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0,
    )


def _network(case: _Case) -> nn.Module:
    return build_network(case.network, in_channels=1, num_classes=_NUM_CLASSES)
