"""Overlap and surface metrics of one case, each with its rule for empty masks.

Both masks empty: the metric is undefined (None). One empty: Dice and NSD are 0, distances are the
volume's diagonal, and the value is marked as penalised, so that a missed structure can never
improve a mean.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, UInt8
from scipy.ndimage import find_objects

from fedvol.config.data import Spacing
from fedvol.config.metrics import METRICS, SegmentationMetric
from fedvol.plan import metric_keys
from fedvol.types import CaseId, SubjectId
from fedvol.validation.cases import CaseMetrics
from fedvol.validation.surface import SurfaceDistances, surface_distances

_ROUND_OFF_MM = 1e-5
_Box = tuple[slice, ...]


def measure_case(
    prediction: UInt8[np.ndarray, "i j k"],
    *,
    truth: UInt8[np.ndarray, "i j k"],
    spacing_mm: Spacing,
    classes: Sequence[str],
    metrics: Sequence[SegmentationMetric],
    tolerance_mm: Mapping[str, float],
    case: CaseId,
    subject: SubjectId,
) -> CaseMetrics:
    """Measure every class of a case, and the mean over the classes defined in it.

    Args:
        prediction: Class index per voxel, 0 background.
        truth: Class index as annotated, on the same grid.
        spacing_mm: Edge lengths of a voxel along i, j, k.
        classes: Names of the class indices 1.. in order.
        metrics: What is measured.
        tolerance_mm: NSD's tolerance of each class; used for `nsd` only.
        case: The case judged.
        subject: The patient it belongs to.

    Raises:
        ValueError: The two volumes lie on grids of other shapes.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    diagonal_mm = float(np.linalg.norm(np.multiply(truth.shape, spacing_mm)))
    boxes = _boxes(prediction, truth=truth, num_classes=len(classes))
    values: dict[str, float | None] = dict.fromkeys(metric_keys(metrics, classes))
    penalised: set[str] = set()
    for index, (name, box) in enumerate(zip(classes, boxes, strict=True), start=1):
        if box is None:
            continue
        predicted, annotated = prediction[box] == index, truth[box] == index
        if predicted.any() and annotated.any():
            found = _measure(
                predicted,
                truth=annotated,
                spacing_mm=spacing_mm,
                metrics=metrics,
                tolerance_mm=tolerance_mm.get(name),
            )
        else:
            found = {metric: _penalty(metric, diagonal_mm=diagonal_mm) for metric in metrics}
            penalised |= {f"{metric}/{name}" for metric in metrics} | set(metrics)
        values |= {f"{metric}/{name}": value for metric, value in found.items()}
    for metric in metrics:
        defined = [v for name in classes if (v := values[f"{metric}/{name}"]) is not None]
        values[metric] = float(np.mean(defined)) if defined else None
    return CaseMetrics(case=case, subject=subject, values=values, penalised=frozenset(penalised))


def dice(prediction: Bool[np.ndarray, "i j k"], *, truth: Bool[np.ndarray, "i j k"]) -> float:
    """Overlap 2 |A and B| / (|A| + |B|) of two masks, not both empty."""
    both = np.count_nonzero(prediction & truth)
    return float(2 * both / (np.count_nonzero(prediction) + np.count_nonzero(truth)))


def hd95_mm(distances: SurfaceDistances) -> float:
    """Larger of the two directed 95th percentiles of surface distance, millimetres.

    Percentiles are interpolated linearly, each over one surface's voxels.
    """
    return float(
        max(np.percentile(distances.prediction_mm, 95), np.percentile(distances.truth_mm, 95))
    )


def assd_mm(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance, pooled over the voxels of both surfaces, millimetres."""
    total = distances.prediction_mm.sum() + distances.truth_mm.sum()
    return float(total / (distances.prediction_mm.size + distances.truth_mm.size))


def nsd(distances: SurfaceDistances, *, tolerance_mm: float) -> float:
    """Normalised surface distance (surface Dice): share of both surfaces near the other.

    Voxels of either surface that lie within the tolerance of the other one, of all of both.
    A distance that exceeds the tolerance by round-off alone (1e-5 mm) is within it.

    Reference: Nikolov et al. (2021), arXiv:1809.04430; here a surface is counted in voxels.
    """
    limit = tolerance_mm + _ROUND_OFF_MM
    within = np.count_nonzero(distances.prediction_mm <= limit)
    within += np.count_nonzero(distances.truth_mm <= limit)
    return float(within / (distances.prediction_mm.size + distances.truth_mm.size))


def _measure(
    prediction: Bool[np.ndarray, "i j k"],
    *,
    truth: Bool[np.ndarray, "i j k"],
    spacing_mm: Spacing,
    metrics: Sequence[SegmentationMetric],
    tolerance_mm: float | None,
) -> dict[SegmentationMetric, float]:
    found: dict[SegmentationMetric, float] = {}
    if "dice" in metrics:
        found["dice"] = dice(prediction, truth=truth)
    if set(metrics) <= {"dice"}:
        return found
    distances = surface_distances(prediction, truth=truth, spacing_mm=spacing_mm)
    if "hd95_mm" in metrics:
        found["hd95_mm"] = hd95_mm(distances)
    if "assd_mm" in metrics:
        found["assd_mm"] = assd_mm(distances)
    if "nsd" in metrics:
        if tolerance_mm is None:
            raise ValueError("nsd needs the tolerance of every class")
        found["nsd"] = nsd(distances, tolerance_mm=tolerance_mm)
    return found


def _penalty(metric: SegmentationMetric, *, diagonal_mm: float) -> float:
    return 0.0 if METRICS[metric].is_share else diagonal_mm


def _boxes(
    prediction: UInt8[np.ndarray, "i j k"],
    *,
    truth: UInt8[np.ndarray, "i j k"],
    num_classes: int,
) -> list[_Box | None]:
    """Smallest box around each class in either volume; None where it is in neither."""
    inner = _foreground_box(prediction, truth=truth)
    pairs = zip(
        find_objects(prediction[inner], max_label=num_classes),
        find_objects(truth[inner], max_label=num_classes),
        strict=True,
    )
    return [_shift(_union(*pair), by=inner) for pair in pairs]


def _foreground_box(
    prediction: UInt8[np.ndarray, "i j k"], *, truth: UInt8[np.ndarray, "i j k"]
) -> _Box:
    """Box around all classes, found several times faster than that of each; may be empty."""
    planes = np.zeros(len(truth), dtype=bool)
    shadow = np.zeros(truth.shape[1:], dtype=np.uint8)
    for index, (one, other) in enumerate(zip(prediction, truth, strict=True)):
        plane = one | other
        planes[index] = plane.max(initial=0) > 0
        shadow |= plane
    found = (np.flatnonzero(line) for line in (planes, shadow.any(axis=1), shadow.any(axis=0)))
    return tuple(slice(line[0], line[-1] + 1) if len(line) else slice(0, 0) for line in found)


def _union(one: _Box | None, other: _Box | None) -> _Box | None:
    if one is None or other is None:
        return one or other
    return tuple(
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )


def _shift(box: _Box | None, *, by: _Box) -> _Box | None:
    if box is None:
        return None
    return tuple(
        slice(part.start + whole.start, part.stop + whole.start)
        for part, whole in zip(box, by, strict=True)
    )
