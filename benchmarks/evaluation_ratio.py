"""Judging whole cases: our evaluation against MONAI's sliding window and metrics, equal in value.

Both apply the same network to the same windows, one at a time, in one thread, and measure Dice,
HD95, ASSD and NSD of every class. Ours reads each case from its compressed file; MONAI's side has
the volumes in memory. Most of either is the network: `network_share` tells how much of ours.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from monai.inferers.inferer import SlidingWindowInferer
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.surface_distance import compute_average_surface_distance
from monai.networks.utils import one_hot
from scipy import ndimage
from torch import Tensor, nn

from benchmarks.measurement import Measurement, Size, in_turns
from fedvol.config.evaluation import Evaluation
from fedvol.config.metrics import SegmentationMetric
from fedvol.config.network import UNet
from fedvol.data.case_store import CaseStore, StoredCase
from fedvol.data.volume import PreparedCase
from fedvol.models import build_network
from fedvol.training import threads
from fedvol.types import CaseId, Digest, SubjectId
from fedvol.validation import SlidingWindow, evaluate_cases, single

_CLASSES = ("first", "second")
_METRICS: tuple[SegmentationMetric, ...] = ("dice", "hd95_mm", "assd_mm", "nsd")
_TOLERANCE_MM = 1.0
_OVERLAP = 0.25
_AGREEMENT = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    shape: tuple[int, int, int]
    cases: int
    patch: tuple[int, int, int]
    features: tuple[int, ...]
    repeats: int


_CASES: dict[Size, _Case] = {
    "tiny": _Case(shape=(18, 12, 16), cases=1, patch=(16, 16, 16), features=(4, 8), repeats=1),
    "default": _Case(
        shape=(36, 50, 36), cases=2, patch=(32, 48, 32), features=(8, 32, 64, 128), repeats=5
    ),
    "large": _Case(
        shape=(256, 256, 128), cases=2, patch=(96, 96, 96), features=(16, 32, 64, 128), repeats=3
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Volume:
    image: Float32[np.ndarray, "1 i j k"]
    label: UInt8[np.ndarray, "i j k"]


class _Guided(nn.Module):
    """The U-Net's work, and logits that find the classes in the image; tells its seconds."""

    def __init__(self, case: _Case) -> None:
        super().__init__()
        config = UNet(kind="unet", features=case.features)
        self.net = build_network(config, in_channels=1, num_classes=1 + len(_CLASSES))
        self.seconds = 0.0

    def forward(self, x: Tensor) -> Tensor:
        began = time.perf_counter()
        logits = self.net(x)[0]
        self.seconds += time.perf_counter() - began
        means = torch.arange(logits.shape[1], dtype=x.dtype)[:, None, None, None]
        return 1e-3 * logits - (x - means).square()


def measure(size: Size) -> Measurement:
    """MONAI's seconds over ours, for the same cases."""
    case = _CASES[size]
    generator = np.random.default_rng(7)
    volumes = [_volume(case.shape, generator=generator) for _ in range(case.cases)]
    net = _Guided(case).eval()
    net.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]  # stub gap
    with tempfile.TemporaryDirectory() as folder, threads(1), torch.inference_mode():
        stored = _stored(volumes, folder=Path(folder))
        # The store rounds intensities to 1/65534 of their range: both see what it gives back.
        volumes = [
            _Volume(image=kept.image(), label=volume.label)
            for (kept, _), volume in zip(stored, volumes, strict=True)
        ]
        found, expected = _ours(case, net, stored), _monais(case, net, volumes)
        for mine, theirs in zip(found, expected, strict=True):
            for name, value in theirs.items():
                assert abs(mine[name] - value) <= _AGREEMENT * max(1.0, abs(value)), (mine, theirs)
        net.seconds = 0.0
        began = time.perf_counter()
        _ours(case, net, stored)
        network_share = net.seconds / (time.perf_counter() - began)
        paired = in_turns(
            lambda: _ours(case, net, stored),
            baseline=lambda: _monais(case, net, volumes),
            repeats=case.repeats,
        )
    return Measurement(
        name="evaluation_ratio",
        value=paired.speedup,
        unit="times faster",
        baseline="monai SlidingWindowInferer, argmax, compute_dice, _hausdorff_distance, "
        "_average_surface_distance, _surface_dice; volumes in memory",
        detail={
            "shape": "x".join(map(str, case.shape)),
            "cases": case.cases,
            "patch": "x".join(map(str, case.patch)),
            "features": str(case.features),
            "network_share": network_share,
            **paired.detail(),
        },
    )


def _volume(shape: tuple[int, int, int], *, generator: np.random.Generator) -> _Volume:
    """Two nested lumps; intensity is the class with noise, as sharp as a network's answer."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij", sparse=True)
    radius = np.sqrt(sum(axis**2 for axis in axes))
    radius = radius + ndimage.gaussian_filter(generator.normal(size=shape), 2.0)
    label = (radius < 0.8).astype(np.uint8) + (radius < 0.4).astype(np.uint8)
    image = label + ndimage.gaussian_filter(generator.normal(scale=1.5, size=shape), 1.0)
    return _Volume(image=image.astype(np.float32)[np.newaxis], label=label)


def _stored(volumes: list[_Volume], *, folder: Path) -> list[tuple[StoredCase, SubjectId]]:
    store = CaseStore(folder)
    for number, volume in enumerate(volumes):
        prepared = PreparedCase(
            image=volume.image,
            label=volume.label,
            affine=np.eye(4),
            reference_label=volume.label,
            reference_shape=volume.label.shape,
            reference_affine=np.eye(4),
            foreground={},
        )
        store.write(CaseId(f"case_{number}"), prepared, key=Digest("0" * 64))
    return [(store.open(name), SubjectId(name)) for name in store.cases()]


def _ours(
    case: _Case, net: nn.Module, cases: list[tuple[StoredCase, SubjectId]]
) -> list[dict[str, float]]:
    window = SlidingWindow(patch=case.patch, overlap=_OVERLAP, mirror_axes=(), device="cpu")
    rows = evaluate_cases(
        single(net, window=window),
        cases,
        classes=_CLASSES,
        evaluation=Evaluation(nsd_tolerance_mm=_TOLERANCE_MM),
        metrics=_METRICS,
    )
    return [{k: v for k, v in row.values.items() if v is not None} for row in rows]


def _monais(case: _Case, net: nn.Module, volumes: list[_Volume]) -> list[dict[str, float]]:
    inferer = SlidingWindowInferer(
        case.patch, sw_batch_size=1, overlap=_OVERLAP, mode="gaussian", progress=False
    )
    rows: list[dict[str, float]] = []
    for volume in volumes:
        image = torch.from_numpy(volume.image)[None]
        probabilities = inferer(image, lambda x: torch.softmax(net(x), dim=1))
        assert isinstance(probabilities, Tensor)
        num_classes = probabilities.shape[1]
        one = one_hot(probabilities.argmax(dim=1, keepdim=True), num_classes)
        other = one_hot(torch.from_numpy(volume.label)[None, None].long(), num_classes)
        rows.append(_monais_metrics(one, truth=other))
    return rows


def _monais_metrics(prediction: Tensor, *, truth: Tensor) -> dict[str, float]:
    options = {"include_background": False, "spacing": [1.0, 1.0, 1.0]}
    tolerances = [_TOLERANCE_MM] * len(_CLASSES)
    found = {
        "dice": compute_dice(prediction, truth, include_background=False),
        "hd95_mm": compute_hausdorff_distance(prediction, truth, percentile=95, **options),
        "assd_mm": compute_average_surface_distance(prediction, truth, symmetric=True, **options),
        "nsd": compute_surface_dice(prediction, truth, class_thresholds=tolerances, **options),
    }
    return {
        f"{metric}/{name}": float(value)
        for metric, values in found.items()
        for name, value in zip(_CLASSES, values[0], strict=True)
    }
