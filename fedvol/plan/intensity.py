"""How intensities are brought to one scale: CT by values of the whole data set, others by volume.

Reference: Isensee et al. (2021), doi:10.1038/s41592-020-01008-z, "Intensity normalization".
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from fedvol.config.open_study import is_ct
from fedvol.errors import PlanningError
from fedvol.plan.choices import Choice, plain_number
from fedvol.plan.fingerprint import ChannelFingerprint, Fingerprint
from fedvol.plan.histogram import Histogram
from fedvol.plan.scales import INTENSITY

KEY: Final = "preprocessing.normalisation"
_LOW: Final = Fraction(5, 1000)
_HIGH: Final = Fraction(995, 1000)
_MAX_WITHHELD: Final = Fraction(5, 100)


def plan_normalisation(fingerprint: Fingerprint, *, channels: Sequence[str]) -> Choice:
    """CT by its channel's name: clip and z-score with the data set's values; else per volume.

    Raises:
        PlanningError: Too little is known of the labelled voxels' intensities, or they are all
            one value.
    """
    if others := [name for name in channels if not is_ct(name)]:
        verb = "is" if len(others) == 1 else "are"
        return Choice(
            key=KEY,
            value={"kind": "z_score"},
            reason=f"{', '.join(others)} {verb} not CT by name, so intensities have no unit in "
            "common: each channel of each volume is brought to mean 0 and deviation 1 by itself",
        )
    pooled = _pooled(fingerprint.channels)
    histogram = pooled.histogram
    if not histogram.cells or histogram.withheld > _MAX_WITHHELD * histogram.total:
        withheld = (
            f"sites withhold {histogram.withheld:,} of {histogram.total:,} labelled voxels, "
            "because too few subjects have their intensities"
        )
        raise PlanningError(
            KEY,
            withheld if histogram.total else "sites tell of no labelled voxel",
            "Fix the normalisation in the study, or bring sites with more cases together.",
        )
    deviation = round(math.sqrt(pooled.variance), 2)
    low = round(float(histogram.quantile(_LOW, scale=INTENSITY)), 1)
    high = round(float(histogram.quantile(_HIGH, scale=INTENSITY)), 1)
    if deviation <= 0 or low >= high:
        raise PlanningError(
            KEY,
            f"all labelled voxels have nearly one value, {low:g}",
            "Check that images are in Hounsfield units, or fix the normalisation in the study.",
        )
    mean = round(pooled.mean, 2)
    reason = (
        f"CT by name, so one unit means the same everywhere: clipped to {plain_number(low)} to "
        f"{plain_number(high)} HU, the {_percentile(_LOW)} and {_percentile(_HIGH)} percentile of "
        f"{histogram.told:,} labelled voxels of the training cases, then minus their mean "
        f"{plain_number(mean)} HU, divided by their deviation {plain_number(deviation)} HU"
    )
    if histogram.withheld:
        reason += f"; {histogram.withheld:,} voxels in rare ranges are withheld by sites"
    return Choice(
        key=KEY,
        value={
            "kind": "clip_z_score",
            "clip_hu": [low, high],
            "mean_hu": mean,
            "deviation_hu": deviation,
        },
        reason=reason,
    )


def _pooled(channels: Sequence[ChannelFingerprint]) -> ChannelFingerprint:
    """All CT channels as one: they share their unit."""
    return ChannelFingerprint(
        name="",
        histogram=Histogram.added(channel.histogram for channel in channels),
        sum=str(sum(int(channel.sum) for channel in channels)),
        sum_of_squares=str(sum(int(channel.sum_of_squares) for channel in channels)),
    )


def _percentile(share: Fraction) -> str:
    return f"{float(100 * share):g}th"
