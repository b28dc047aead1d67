"""HD95, ASSD and NSD of one pair of masks against MONAI's three functions, equal in value."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.surface_distance import compute_average_surface_distance
from scipy import ndimage

from benchmarks.measurement import Measurement, Size, in_turns
from fedvol.types import CaseId, SubjectId
from fedvol.validation.metrics import measure_case

_SPACING_MM = (0.8, 0.8, 2.5)
_TOLERANCE_MM = 2.0
_AGREEMENT = 1e-4
_CLASS = "organ"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    shape: tuple[int, int, int]
    repeats: int


_CASES: dict[Size, _Case] = {
    "tiny": _Case(shape=(24, 24, 12), repeats=1),
    "default": _Case(shape=(192, 192, 80), repeats=5),
    "large": _Case(shape=(512, 512, 200), repeats=3),
}


def measure(size: Size) -> Measurement:
    """MONAI's seconds over ours, on an organ of a third of the grid's width and a prediction."""
    case = _CASES[size]
    generator = np.random.default_rng(7)
    truth = _organ(case.shape, shift=0.0, generator=generator)
    prediction = _organ(case.shape, shift=0.02, generator=generator)
    one, other = (
        torch.from_numpy(np.stack([mask == 0, mask == 1]))[None] for mask in (prediction, truth)
    )
    found, expected = _ours(prediction, truth=truth), _monai(one, truth=other)
    for name, value in expected.items():
        assert abs(found[name] - value) <= _AGREEMENT * max(1.0, abs(value)), (name, found, value)
    paired = in_turns(
        lambda: _ours(prediction, truth=truth),
        baseline=lambda: _monai(one, truth=other),
        repeats=case.repeats,
    )
    return Measurement(
        name="surface_metrics_speedup",
        value=paired.speedup,
        unit="times faster",
        baseline="monai compute_hausdorff_distance, _average_surface_distance, _surface_dice",
        detail={
            "shape": "x".join(map(str, case.shape)),
            "organ_voxels": int(truth.sum()),
            **{name: value for name, value in found.items() if name in expected},
            **paired.detail(),
        },
    )


def _organ(
    shape: tuple[int, int, int], *, shift: float, generator: np.random.Generator
) -> UInt8[np.ndarray, "i j k"]:
    """An ellipsoid with a lumpy border; `shift` moves it, in widths of the grid."""
    i, j, k = np.ogrid[tuple(slice(-1.0, 1.0, complex(0, side)) for side in shape)]
    radius = np.sqrt(((i - 2 * shift) / 0.65) ** 2 + (j / 0.5) ** 2 + (k / 0.7) ** 2)
    coarse = generator.normal(scale=0.08, size=(9, 9, 7))
    factors = [side / knots for side, knots in zip(shape, coarse.shape, strict=True)]
    lumps = ndimage.zoom(coarse.astype(np.float32), factors, order=1)
    return (radius + lumps < 1).astype(np.uint8)


def _ours(
    prediction: UInt8[np.ndarray, "i j k"], *, truth: UInt8[np.ndarray, "i j k"]
) -> dict[str, float]:
    values = measure_case(
        prediction,
        truth=truth,
        spacing_mm=_SPACING_MM,
        classes=(_CLASS,),
        metrics=("hd95_mm", "assd_mm", "nsd"),
        tolerance_mm={_CLASS: _TOLERANCE_MM},
        case=CaseId("pair"),
        subject=SubjectId("pair"),
    ).values
    return {name: value for name, value in values.items() if value is not None}


def _monai(prediction: torch.Tensor, *, truth: torch.Tensor) -> dict[str, float]:
    options = {"include_background": False, "spacing": list(_SPACING_MM)}
    found = {
        "hd95_mm": compute_hausdorff_distance(prediction, truth, percentile=95, **options),
        "assd_mm": compute_average_surface_distance(prediction, truth, symmetric=True, **options),
        "nsd": compute_surface_dice(prediction, truth, class_thresholds=[_TOLERANCE_MM], **options),
    }
    return {name: float(value) for name, value in found.items()}
