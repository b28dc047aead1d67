"""Our metrics equal MONAI's wherever both masks hold the class, and brute force everywhere."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.surface_distance import compute_average_surface_distance

from fedvol.types import CaseId, SubjectId
from fedvol.validation.metrics import measure_case

torch.set_num_threads(1)

CLASSES = ("a", "b")
METRICS = ("dice", "hd95_mm", "assd_mm", "nsd")


def ours(prediction: np.ndarray, truth: np.ndarray, *, spacing, tolerance: float) -> dict:
    return measure_case(
        prediction,
        truth=truth,
        spacing_mm=spacing,
        classes=CLASSES,
        metrics=METRICS,
        tolerance_mm=dict.fromkeys(CLASSES, tolerance),
        case=CaseId("c"),
        subject=SubjectId("s"),
    ).values


def monais(prediction: np.ndarray, truth: np.ndarray, *, spacing, tolerance: float) -> dict:
    a, b = (
        torch.stack([torch.tensor(v == c) for c in (0, 1, 2)])[None] for v in (prediction, truth)
    )
    options = {"include_background": False, "spacing": [float(s) for s in spacing]}
    found = {
        "dice": compute_dice(a.float(), b.float(), include_background=False),
        "hd95_mm": compute_hausdorff_distance(a, b, percentile=95, **options),
        "assd_mm": compute_average_surface_distance(a, b, symmetric=True, **options),
        "nsd": compute_surface_dice(a, b, class_thresholds=[tolerance] * 2, **options),
    }
    return {
        f"{metric}/{name}": float(values[0, index])
        for metric, values in found.items()
        for index, name in enumerate(CLASSES)
    }


def brute_force(prediction: np.ndarray, truth: np.ndarray, *, spacing, tolerance: float) -> dict:
    """One class from its definition, voxel by voxel."""

    def border(mask: np.ndarray) -> list[np.ndarray]:
        steps = [s for s in itertools.product((-1, 0, 1), repeat=3) if np.abs(s).sum() == 1]
        inside = {tuple(v) for v in np.argwhere(mask).tolist()}
        return [
            np.multiply(v, spacing)
            for v in sorted(inside)
            if any(tuple(np.add(v, s).tolist()) not in inside for s in steps)
        ]

    one, other = border(prediction), border(truth)
    there = sorted(min(float(np.linalg.norm(p - q)) for q in other) for p in one)
    back = sorted(min(float(np.linalg.norm(p - q)) for q in one) for p in other)

    def percentile(values: list[float]) -> float:
        place = 0.95 * (len(values) - 1)
        low = int(place)
        high = min(low + 1, len(values) - 1)
        return values[low] + (place - low) * (values[high] - values[low])

    both = [*there, *back]
    return {
        "dice": 2 * (prediction & truth).sum() / (prediction.sum() + truth.sum()),
        "hd95_mm": max(percentile(there), percentile(back)),
        "assd_mm": sum(both) / len(both),
        "nsd": sum(d <= tolerance + 1e-5 for d in both) / len(both),
    }


def blobs(generator: np.random.Generator, *, shape: tuple[int, ...]) -> np.ndarray:
    """Classes in lumps rather than dust."""
    noise = generator.normal(size=shape)
    for axis in range(3):
        noise = noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)
    return np.digitize(noise, np.quantile(noise, [0.6, 0.85])).astype(np.uint8)


@given(
    seed=st.integers(0, 2**31),
    spacing=st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 1.37, 3.0])] * 3),
    tolerance=st.sampled_from([0.55, 1.05, 2.15]),
)
@settings(max_examples=20, deadline=None)
def test_equal_to_monai_on_lumps(seed: int, spacing, tolerance: float) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(generator.integers(5, 14, size=3).tolist())
    prediction, truth = blobs(generator, shape=shape), blobs(generator, shape=shape)
    for index in (1, 2):
        assume((prediction == index).any() and (truth == index).any())
    found = ours(prediction, truth, spacing=spacing, tolerance=tolerance)
    expected = monais(prediction, truth, spacing=spacing, tolerance=tolerance)
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(seed=st.integers(0, 2**31), density=st.sampled_from([0.02, 0.3, 0.9]))
@settings(max_examples=20, deadline=None)
def test_equal_to_brute_force_on_dust(seed: int, density: float) -> None:
    generator = np.random.default_rng(seed)
    spacing = tuple(generator.uniform(0.3, 4.0, size=3).tolist())
    prediction, truth = (generator.random((2, 5, 6, 4)) < density).astype(np.uint8)
    assume(prediction.any() and truth.any())
    found = ours(prediction, truth, spacing=spacing, tolerance=1.0)
    expected = brute_force(prediction == 1, truth == 1, spacing=spacing, tolerance=1.0)
    assert {key: found[f"{key}/a"] for key in expected} == pytest.approx(expected, rel=1e-9)
    assert found["dice/b"] is None


def test_at_the_volumes_border_equal_to_monai() -> None:
    truth = np.zeros((6, 6, 6), dtype=np.uint8)
    truth[:3], truth[3:] = 1, 2
    prediction = truth.copy()
    prediction[3, 2:, :] = 1
    expected = monais(prediction, truth, spacing=(1, 2, 3), tolerance=1.1)
    found = ours(prediction, truth, spacing=(1.0, 2.0, 3.0), tolerance=1.1)
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-5)


def test_monai_drops_a_missed_structure_and_we_do_not() -> None:
    """Why the rule for empty masks is ours: there a missed lesion is not a number or infinite."""
    truth = np.zeros((6, 6, 6), dtype=np.uint8)
    truth[1:3, 1:3, 1:3], truth[4, 4, 4] = 1, 2
    prediction = np.where(truth == 2, 0, truth).astype(np.uint8)
    with warnings.catch_warnings(action="ignore"):
        theirs = monais(prediction, truth, spacing=(1, 1, 1), tolerance=1.0)
    found = ours(prediction, truth, spacing=(1.0, 1.0, 1.0), tolerance=1.0)
    assert not np.isfinite(theirs["hd95_mm/b"])
    assert found["hd95_mm/b"] == found["assd_mm/b"] == pytest.approx(np.sqrt(3 * 36))
