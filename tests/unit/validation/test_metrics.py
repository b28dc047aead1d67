"""Metrics of one case: worked examples, known answers, and the rules for empty masks."""

import math

import numpy as np
import pytest

from fedvol.plan import metric_keys
from fedvol.types import CaseId, SubjectId
from fedvol.validation import CaseMetrics
from fedvol.validation.metrics import assd_mm, dice, hd95_mm, measure_case, nsd
from fedvol.validation.surface import SurfaceDistances, surface_distances

ALL = ("dice", "hd95_mm", "assd_mm", "nsd")
UNIT = (1.0, 1.0, 1.0)


def measure(prediction: np.ndarray, truth: np.ndarray, **changes) -> CaseMetrics:
    settings = {
        "spacing_mm": UNIT,
        "classes": ("a", "b"),
        "metrics": ALL,
        "tolerance_mm": {"a": 1.0, "b": 1.0},
        "case": CaseId("c1"),
        "subject": SubjectId("s1"),
    }
    return measure_case(prediction, truth=truth, **(settings | changes))


def labels(*, shape: tuple[int, int, int] = (10, 10, 10), **boxes: tuple) -> np.ndarray:
    volume = np.zeros(shape, dtype=np.uint8)
    for name, (low, high) in boxes.items():
        volume[low:high, 4:6, 4:6] = {"a": 1, "b": 2}[name]
    return volume


def test_worked_example() -> None:
    """A bar of 2x2x4 voxels, predicted two voxels too far along i (spacing 3 mm there).

    Every voxel of a 2x2 bar is surface: 16 of each. 8 are shared; of the others 4 are 3 mm and 4
    are 6 mm away, in both directions. Dice 16/32; ASSD 2*(12+24)/32 mm; NSD at 3 mm 24/32; the
    95th percentile of 16 values, the last four 6: 6 mm.
    """
    row = measure(
        labels(a=(4, 8)),
        labels(a=(2, 6)),
        spacing_mm=(3.0, 1.0, 1.0),
        tolerance_mm={"a": 3.0, "b": 3.0},
    )
    assert row.values == {
        "dice": 0.5,
        "dice/a": 0.5,
        "dice/b": None,
        "hd95_mm": 6.0,
        "hd95_mm/a": 6.0,
        "hd95_mm/b": None,
        "assd_mm": 2.25,
        "assd_mm/a": 2.25,
        "assd_mm/b": None,
        "nsd": 0.75,
        "nsd/a": 0.75,
        "nsd/b": None,
    }
    assert row.penalised == frozenset()


def test_spheres_have_the_known_distance() -> None:
    """Radius 23 against 20 at 1 mm: every surface distance is 3 mm up to the voxel (0.5 mm)."""
    axes = np.arange(50) - 24.5
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(axes, axes, axes)))
    large, small = radius <= 23, radius <= 20
    distances = surface_distances(large, truth=small, spacing_mm=UNIT)
    assert hd95_mm(distances) == pytest.approx(3.0, abs=0.5)
    assert assd_mm(distances) == pytest.approx(3.0, abs=0.2)
    hausdorff = max(distances.prediction_mm.max(), distances.truth_mm.max())
    assert hausdorff == pytest.approx(3.0, abs=0.6)
    assert dice(large, truth=small) == pytest.approx(2 * 20**3 / (23**3 + 20**3), abs=0.01)
    assert nsd(distances, tolerance_mm=2.0) == 0.0
    assert nsd(distances, tolerance_mm=4.0) == 1.0


def test_a_perfect_prediction() -> None:
    truth = labels(a=(1, 4), b=(5, 9))
    row = measure(truth, truth)
    perfect = {"dice": 1.0, "hd95_mm": 0.0, "assd_mm": 0.0, "nsd": 1.0}
    assert row.values == {k: perfect[k.split("/")[0]] for k in metric_keys(ALL, ("a", "b"))}


@pytest.mark.parametrize("missed", [True, False])
def test_one_empty_mask_is_penalised_with_the_volumes_diagonal(missed: bool) -> None:
    spacing = (1.0, 2.0, 3.0)
    with_b, without_b = labels(a=(1, 4), b=(5, 9)), labels(a=(1, 4))
    prediction, truth = (without_b, with_b) if missed else (with_b, without_b)
    row = measure(prediction, truth, spacing_mm=spacing)
    diagonal = math.sqrt(10**2 + 20**2 + 30**2)
    assert row.values["dice/b"] == row.values["nsd/b"] == 0.0
    assert row.values["hd95_mm/b"] == row.values["assd_mm/b"] == pytest.approx(diagonal)
    assert row.values["dice"] == 0.5
    assert row.values["hd95_mm"] == pytest.approx(diagonal / 2)
    assert row.penalised == {*ALL, *(f"{metric}/b" for metric in ALL)}


def test_both_empty_is_undefined_and_no_penalty() -> None:
    row = measure(labels(), labels())
    assert set(row.values) == set(metric_keys(ALL, ("a", "b")))
    assert set(row.values.values()) == {None}
    assert row.penalised == frozenset()


def test_a_missed_class_never_improves_a_mean() -> None:
    truth = labels(a=(1, 4), b=(5, 9))
    poor = labels(a=(1, 4), b=(8, 10))
    kept, missed = measure(poor, truth), measure(labels(a=(1, 4)), truth)
    for metric in ("dice", "nsd"):
        assert missed.values[metric] < kept.values[metric]
    for metric in ("hd95_mm", "assd_mm"):
        assert missed.values[metric] > kept.values[metric]


def test_each_class_has_its_own_tolerance() -> None:
    prediction, truth = labels(a=(0, 3), b=(6, 9)), labels(a=(1, 4), b=(7, 10))
    row = measure(prediction, truth, tolerance_mm={"a": 0.5, "b": 1.0})
    assert row.values["nsd/a"] < 1.0
    assert row.values["nsd/b"] == 1.0


def test_round_off_in_the_spacing_does_not_change_nsd() -> None:
    distances = SurfaceDistances(
        prediction_mm=np.array([0.1 + 0.2, 0.0]), truth_mm=np.array([0.3 + 1e-3])
    )
    assert nsd(distances, tolerance_mm=0.3) == pytest.approx(2 / 3)


def test_only_what_is_asked_is_measured() -> None:
    row = measure(labels(a=(0, 3)), labels(a=(1, 4)), metrics=("dice",), tolerance_mm={})
    assert list(row.values) == ["dice", "dice/a", "dice/b"]
    with pytest.raises(ValueError, match="tolerance"):
        measure(labels(a=(0, 3)), labels(a=(1, 4)), tolerance_mm={})


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        measure(labels(), labels(shape=(9, 10, 10)))


@pytest.mark.parametrize("corner", [(0, 0, 0), (14, 13, 15), (3, 9, 0)])
def test_where_in_the_volume_the_classes_lie_does_not_matter(corner: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    small = generator.choice(3, size=(2, 6, 7, 5), p=(0.6, 0.3, 0.1)).astype(np.uint8)
    padded = np.pad(small, ((0, 0), (1, 1), (1, 1), (1, 1)))
    large = np.zeros((2, 20, 20, 20), dtype=np.uint8)
    large[
        (slice(None), *(slice(c, c + n) for c, n in zip(corner, small.shape[1:], strict=True)))
    ] = small
    spacing = (0.7, 1.3, 2.0)
    expected = measure(*padded, spacing_mm=spacing).values
    assert measure(*large, spacing_mm=spacing).values == pytest.approx(expected, rel=1e-12)
