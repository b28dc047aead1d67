"""HD95, ASSD and NSD of pairs of masks against MONAI's three functions, equal in value."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Int, UInt8
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.surface_distance import compute_average_surface_distance
from scipy import ndimage

from benchmarks.measurement import Measurement, Paired, Size, in_turns
from fedvol.types import CaseId, SubjectId
from fedvol.validation.metrics import measure_case

_SPACING_MM = (0.8, 0.8, 2.5)
_TOLERANCE_MM = 2.0
_AGREEMENT = 1e-4
_CLASS = "a"

_Shape = tuple[int, int, int]
_Mask = UInt8[np.ndarray, "i j k"]
_Pair = tuple[_Mask, _Mask]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    shape: _Shape
    repeats: int


_CASES: dict[Size, _Case] = {
    "tiny": _Case(shape=(24, 24, 12), repeats=1),
    "default": _Case(shape=(192, 192, 80), repeats=5),
    "large": _Case(shape=(512, 512, 200), repeats=3),
}


def measure(size: Size) -> Measurement:
    """MONAI's seconds over ours, for the pair of masks where that is least."""
    case = _CASES[size]
    compared = {
        name: _compare(*make(case.shape), repeats=case.repeats) for name, make in _PAIRS.items()
    }
    worst = min(compared, key=lambda name: compared[name].speedup)
    return Measurement(
        name="surface_metrics_speedup",
        value=compared[worst].speedup,
        unit="times faster",
        baseline="monai compute_hausdorff_distance, _average_surface_distance, _surface_dice",
        detail={
            "shape": "x".join(map(str, case.shape)),
            "worst": worst,
            **{f"{name}_speedup": paired.speedup for name, paired in compared.items()},
            **compared[worst].detail(),
        },
    )


def _compare(prediction: _Mask, truth: _Mask, *, repeats: int) -> Paired:
    one, other = (
        torch.from_numpy(np.stack([mask == 0, mask == 1]))[None] for mask in (prediction, truth)
    )
    found, expected = _ours(prediction, truth=truth), _monai(one, truth=other)
    for name, value in expected.items():
        assert abs(found[name] - value) <= _AGREEMENT * max(1.0, abs(value)), (name, found, value)
    return in_turns(
        lambda: _ours(prediction, truth=truth),
        baseline=lambda: _monai(one, truth=other),
        repeats=repeats,
    )


def _organ(shape: _Shape, *, apart: float) -> _Pair:
    """A lumpy ellipsoid of a third of the volume; the other one lies `apart` widths beside it."""
    generator = np.random.default_rng(7)
    axes = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    i, j, k = np.meshgrid(*axes, indexing="ij", sparse=True)

    def mask(shift: float) -> _Mask:
        radius = np.sqrt(((i - 2 * shift) / 0.65) ** 2 + (j / 0.5) ** 2 + (k / 0.7) ** 2)
        coarse = generator.normal(scale=0.08, size=(9, 9, 7)).astype(np.float32)
        factors = [side / knots for side, knots in zip(shape, coarse.shape, strict=True)]
        return (radius + ndimage.zoom(coarse, factors, order=1) < 1).astype(np.uint8)

    return mask(apart), mask(0.0)


def _lesions(shape: _Shape, *, count: int) -> _Pair:
    """Balls with radii of 2 to 6 mm anywhere; the others are a voxel aside and not as large."""
    generator = np.random.default_rng(7)
    prediction, truth = np.zeros((2, *shape), dtype=np.uint8)
    for _ in range(count):
        centre = generator.integers(shape)
        radius_mm = generator.uniform(2, 6)
        _paint(truth, centre=centre, radius_mm=radius_mm)
        aside = generator.integers(-1, 2, size=3)
        _paint(prediction, centre=centre + aside, radius_mm=radius_mm * generator.uniform(0.8, 1))
    return prediction, truth


def _paint(mask: _Mask, *, centre: Int[np.ndarray, "3"], radius_mm: float) -> None:
    away = [
        (np.arange(side) - middle) * step
        for side, middle, step in zip(mask.shape, centre, _SPACING_MM, strict=True)
    ]
    near = np.ix_(*(np.flatnonzero(np.abs(line) <= radius_mm) for line in away))
    i, j, k = (line[index] for line, index in zip(away, near, strict=True))
    mask[near] |= i**2 + j**2 + k**2 <= radius_mm**2


_PAIRS: dict[str, Callable[[_Shape], _Pair]] = {
    "organ": partial(_organ, apart=0.02),
    "poor_organ": partial(_organ, apart=0.1),
    "lesion": partial(_lesions, count=1),
    "lesions": partial(_lesions, count=30),
}


def _ours(prediction: _Mask, *, truth: _Mask) -> dict[str, float]:
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
