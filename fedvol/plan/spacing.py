"""Which voxel size volumes are brought to: the rule of nnU-Net.

Reference: Isensee et al. (2021), doi:10.1038/s41592-020-01008-z, "Inferred parameters".
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from fedvol.errors import PlanningError
from fedvol.plan.choices import AXES, Choice, plain_number
from fedvol.plan.fingerprint import Fingerprint, PerAxis
from fedvol.plan.scales import EXTENT, SPACING, LinearScale
from fedvol.types import SiteId

SpacingMm = tuple[float, float, float]

KEY: Final = "preprocessing.spacing_mm"
_MEDIAN: Final = Fraction(1, 2)
_FINE: Final = Fraction(1, 10)
_RATIO: Final = 3
"""From this ratio on, in spacing and in voxels, an axis is told apart."""

_MAX_FACTOR: Final = 8
"""Farthest a site's usual voxel edge may lie from the plan's."""


def plan_spacing(fingerprint: Fingerprint) -> Choice:
    """Median voxel edges; along an axis of thick and few slices the 10th percentile.

    How many slices there are is the median extent over the median edge (nnU-Net: the median number
    of slices, which sites do not tell).

    Raises:
        PlanningError: The sites tell too little of their voxel sizes.
    """
    edges = list(_quantiles(fingerprint.spacing_mm, _MEDIAN, scale=SPACING, key=KEY))
    extents = _quantiles(fingerprint.extent_mm, _MEDIAN, scale=EXTENT, key=KEY)
    sides = [round(extent / edge) for extent, edge in zip(extents, edges, strict=True)]
    cases = "1 training case" if fingerprint.cases == 1 else f"{fingerprint.cases:,} training cases"
    reason = (
        f"the median voxel edge along each axis ({', '.join(AXES)}) over {cases}, so that most "
        "volumes are resampled little or not at all"
    )
    worst = max(range(3), key=lambda axis: edges[axis])
    others = [axis for axis in range(3) if axis != worst]
    coarsest = max(edges[axis] for axis in others)
    fewest = min(sides[axis] for axis in others)
    if edges[worst] > _RATIO * coarsest and sides[worst] * _RATIO < fewest:
        median = edges[worst]
        fine = float(fingerprint.spacing_mm[worst].quantile(_FINE, scale=SPACING))
        edges[worst] = max(fine, coarsest)
        reason += (
            f"; along {AXES[worst]} slices are thick (median {plain_number(median)} mm, more than "
            f"{_RATIO} times {plain_number(coarsest)} mm) and few (about {sides[worst]}, against "
            f"{fewest} voxels), so the 10th percentile is taken there: the cases with the thinnest "
            "slices keep their detail"
        )
    return Choice(key=KEY, value=[*edges], reason=reason)


def median_shape(fingerprint: Fingerprint, *, spacing_mm: SpacingMm, key: str) -> tuple[int, ...]:
    """Voxels of the median volume at a spacing, along i, j, k; at least 1.

    Args:
        fingerprint: Of all sites.
        spacing_mm: The spacing.
        key: What it is needed for.

    Raises:
        PlanningError: The sites tell too little of their volumes' sizes.
    """
    extents = _quantiles(fingerprint.extent_mm, _MEDIAN, scale=EXTENT, key=key)
    return tuple(
        max(1, round(extent / edge)) for extent, edge in zip(extents, spacing_mm, strict=True)
    )


def require_comparable(parts: Mapping[SiteId, Fingerprint], *, spacing_mm: SpacingMm) -> None:
    """Refuse a spacing that some site's volumes can only absurdly be brought to.

    Raises:
        PlanningError: A site's median voxel edge is more than eight times larger or smaller than
            the plan's; names every such site and axis.
    """
    found: list[str] = []
    for site, part in sorted(parts.items()):
        for axis, histogram in enumerate(part.spacing_mm):
            if not histogram.cells:
                continue
            edge, planned = float(histogram.quantile(_MEDIAN, scale=SPACING)), spacing_mm[axis]
            if max(edge, planned) > _MAX_FACTOR * min(edge, planned):
                found.append(
                    f"{site} has {plain_number(edge)} mm along {AXES[axis]}, the plan "
                    f"{plain_number(planned)} mm"
                )
    if found:
        raise PlanningError(
            KEY,
            f"voxel edges differ more than {_MAX_FACTOR}-fold from the plan: {'; '.join(found)}",
            "Leave such sites out, correct their headers, or fix preprocessing.spacing_mm.",
        )


def _quantiles(
    axes: PerAxis, share: Fraction, *, scale: LinearScale, key: str
) -> tuple[float, float, float]:
    if not all(axis.cells for axis in axes):
        raise PlanningError(
            key,
            "no training case, or too few subjects at any site, so nothing is known of the volumes",
            "Fix the value in the study, or bring sites with more cases together.",
        )
    i, j, k = (float(axis.quantile(share, scale=scale)) for axis in axes)
    return i, j, k
