"""What the worst pretext task's transformation takes of a whole step of a small network.

The network is that of `fedvol demo`, the narrowest of the project's examples, so that a step is
cheap; `mae_vit`, which takes a transformer, has one of the width of ViT-Tiny. Models Genesis
disturbs every patch in every way, where by default it shuffles every second one.
"""

from dataclasses import dataclass
from typing import Protocol, cast, get_args

import torch

from benchmarks.measurement import Measurement, Size, in_turns
from fedvol.config import Study
from fedvol.config.loading import parse_study
from fedvol.config.pretext import PretextTask
from fedvol.data.batch import UnlabelledBatch
from fedvol.ssl import Pretext, build_pretext, initial_pretext_network
from fedvol.training import Window, threads, train
from fedvol.types import Triple

_NUM_THREADS = 1
_UNET = 'kind = "unet"\nfeatures = [8, 16, 32]'
_VIT_TINY = 'kind = "unetr"\nhidden_size = 192\nmlp_dim = 768\nnum_heads = 3'
_STUDY = """
version = 1
name = "timed"
purpose = "Measure what a pretext task's transformation costs."

[data]
channels = ["CT"]
labels = {{ organ = 1 }}
split = {{ kind = "fold", test = 0, validation = 1 }}

[preprocessing]
spacing_mm = [1.0, 1.0, 1.0]
normalisation = {{ kind = "z_score" }}

[patches]
size = {patch}
batch_size = {batch_size}

[network]
{network}

[task]
kind = "segmentation"

[[stages]]
kind = "pretrain"
rounds = 1
steps_per_round = 1
task = {{ {task} }}
strategy = {{ kind = "fedavg" }}

[stages.training]
optimiser = {{ kind = "adamw", learning_rate = 1e-3 }}
num_threads = {num_threads}
checkpoint_every_s = 1e6

[[stages]]
kind = "finetune"
rounds = 1
steps_per_round = 1
strategy = {{ kind = "fedavg" }}

[stages.training]
optimiser = {{ kind = "adamw", learning_rate = 1e-3 }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patch:
    size: Triple
    batch_size: int
    steps: int
    repeats: int


_HIPPOCAMPUS = _Patch(size=(32, 48, 32), batch_size=2, steps=3, repeats=5)
"""The patch of examples/hippocampus.toml: brain MR, 1 mm."""
_ABDOMEN = _Patch(size=(96, 96, 64), batch_size=1, steps=1, repeats=3)
"""A part of an abdominal CT."""
_PATCHES: dict[Size, tuple[_Patch, ...]] = {
    "tiny": (_Patch(size=(32, 32, 16), batch_size=1, steps=1, repeats=1),),
    "default": (_HIPPOCAMPUS, _ABDOMEN),
    "large": (
        _HIPPOCAMPUS,
        _ABDOMEN,
        _Patch(size=(128, 128, 64), batch_size=2, steps=1, repeats=5),  # that of MIS-FM
    ),
}


class _Transforming(Pretext, Protocol):
    def transform(self, batch: UnlabelledBatch) -> object: ...


class _Held:
    """Batches made beforehand, the objective's draws being another at each step."""

    def __init__(self, patch: _Patch, *, count: int) -> None:
        shape = (count, 1, *patch.size)
        self._image = torch.randn(shape, generator=torch.Generator().manual_seed(7))
        self._image = self._image.contiguous(memory_format=torch.channels_last_3d)

    def batch(self, step: int) -> UnlabelledBatch:
        return UnlabelledBatch(image=self._image, seed=step)


def measure(size: Size) -> Measurement:
    """The largest share of all tasks and patches; each is the median of its turns."""
    shares: dict[str, float] = {}
    with threads(_NUM_THREADS):
        for kind in _kinds():
            for patch in _PATCHES[size]:
                sides = "x".join(map(str, patch.size))
                shares[f"{kind} {sides}"] = _share(kind, patch)
    worst = max(shares, key=shares.__getitem__)
    return Measurement(
        name="ssl_transform_share",
        value=shares[worst],
        unit="share",
        baseline="the whole step that it is part of: transformation, forward, backward, AdamW",
        detail={
            "worst": worst,
            "features": "(8, 16, 32); mae_vit: 12 layers of 192",
            "batches": str({"x".join(map(str, p.size)): p.batch_size for p in _PATCHES[size]}),
            "threads": _NUM_THREADS,
            **shares,
        },
    )


def _kinds() -> list[str]:
    """Every pretext task a study may ask for."""
    union = get_args(PretextTask)[0]
    return [get_args(section.model_fields["kind"].annotation)[0] for section in get_args(union)]


def _share(kind: str, patch: _Patch) -> float:
    study = _study(kind, patch)
    stage = study.pretrain
    assert stage is not None
    task = cast(_Transforming, build_pretext(stage.task))
    net = initial_pretext_network(study, stage)
    batches = _Held(patch, count=patch.batch_size * (2 if stage.task.needs_pairs else 1))

    def transform() -> None:
        for step in range(patch.steps):
            task.transform(batches.batch(step))

    def step() -> None:
        train(
            net,
            objective=task,
            batches=batches,
            config=stage.training,
            window=Window(first_step=0, num_steps=patch.steps, total_steps=patch.steps),
            device=torch.device("cpu"),
        )

    transform()
    step()
    return 1 / in_turns(transform, baseline=step, repeats=patch.repeats).speedup


def _study(kind: str, patch: _Patch) -> Study:
    keys = {
        "rotation": f", axis = {_upright(patch.size)}",
        "models_genesis": ", shuffle_probability = 1.0, intensity_probability = 1.0, "
        "paint_probability = 1.0",
    }
    text = _STUDY.format(
        patch=list(patch.size),
        batch_size=patch.batch_size,
        network=_VIT_TINY if kind == "mae_vit" else _UNET,
        task=f'kind = "{kind}"{keys.get(kind, "")}',
        num_threads=_NUM_THREADS,
    )
    return parse_study(text, where="ssl_transform_share")


def _upright(size: Triple) -> int:
    """An axis about which a patch keeps its shape when it is turned by 90 degrees."""
    return next(axis for axis in range(3) if size[axis - 1] == size[axis - 2])
