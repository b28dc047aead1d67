"""`Fingerprint`: what sites tell of their training cases before a run, as counts that add up."""

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from fedvol.config.base import Section
from fedvol.errors import ContributionError
from fedvol.plan.canonical import digest_json
from fedvol.plan.histogram import Count, Histogram
from fedvol.plan.scales import FIXED_POINT
from fedvol.types import Digest

ExactSum = Annotated[str, Field(pattern=r"^(0|-?[1-9][0-9]{0,40})$")]
"""A whole number of any size in decimal digits: JSON's own numbers end at 2^53."""


class ChannelFingerprint(Section):
    """Intensities of one channel in all labelled voxels."""

    name: str
    """The channel."""
    histogram: Histogram
    """Voxels in the bins of `scales.INTENSITY`."""
    sum: ExactSum
    """Sum of the intensities, in 1/1024."""
    sum_of_squares: ExactSum
    """Sum of their squares, in 1/1024^2."""

    @property
    def mean(self) -> float:
        """Mean over the labelled voxels; there is at least one."""
        return float(Fraction(int(self.sum), FIXED_POINT * self.histogram.total))

    @property
    def variance(self) -> float:
        """Mean squared distance from the mean."""
        num = self.histogram.total
        squares = Fraction(int(self.sum_of_squares), num) - Fraction(int(self.sum), num) ** 2
        return float(squares / FIXED_POINT**2)


class ClassFingerprint(Section):
    """How much there is of one class."""

    name: str
    """The class."""
    cases: Count
    """Cases that hold it."""
    voxels: Count
    """Voxels of it in all cases."""


PerAxis = tuple[Histogram, Histogram, Histogram]


class Fingerprint(Section):
    """Labelled training cases of one site, or of several added.

    Test and validation cases are not in it: nothing is planned on what the model is judged by.
    """

    version: Literal[1] = 1
    """Version of this schema."""
    cases: Count
    """Labelled training cases."""
    subjects: Count
    """Subjects behind them; 0 where `withheld` names it."""
    spacing_mm: PerAxis
    """Cases by voxel edge, in steps of 0.0001 mm, along i, j, k."""
    extent_mm: PerAxis
    """Cases by edge of the volume, in steps of 0.1 mm, along i, j, k. Their voxels are not told:
    with one voxel edge everywhere these would be the extents again in other bins, and the
    difference of two bins can be one subject."""
    channels: tuple[ChannelFingerprint, ...]
    """Each channel, in the study's order."""
    classes: tuple[ClassFingerprint, ...]
    """Each class, in order of its index."""
    withheld: tuple[str, ...] = ()
    """Figures that a site keeps to itself because few subjects are behind them; they are 0 here,
    or count the other sites only."""

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 of the canonical JSON."""
        return digest_json(self.model_dump(mode="json"))


def merge_fingerprints(parts: Sequence[Fingerprint]) -> Fingerprint:
    """The fingerprint of all sites' cases together; the order of the parts changes nothing.

    Raises:
        ContributionError: The parts name other channels or classes.
    """
    first = parts[0]
    for part in parts[1:]:
        if _names(part) != _names(first):
            raise ContributionError(
                "fingerprint",
                "sites name other channels or classes",
                "Bring every site to the study's version.",
            )
    return Fingerprint(
        cases=sum(part.cases for part in parts),
        subjects=sum(part.subjects for part in parts),
        spacing_mm=_added([part.spacing_mm for part in parts]),
        extent_mm=_added([part.extent_mm for part in parts]),
        channels=tuple(_channel(group) for group in zip(*(p.channels for p in parts), strict=True)),
        classes=tuple(_class(group) for group in zip(*(p.classes for p in parts), strict=True)),
        withheld=tuple(sorted({name for part in parts for name in part.withheld})),
    )


def _names(part: Fingerprint) -> tuple[list[str], list[str]]:
    return [one.name for one in part.channels], [one.name for one in part.classes]


def _added(parts: Sequence[PerAxis]) -> PerAxis:
    i, j, k = (Histogram.added(axis) for axis in zip(*parts, strict=True))
    return i, j, k


def _channel(parts: Sequence[ChannelFingerprint]) -> ChannelFingerprint:
    return ChannelFingerprint(
        name=parts[0].name,
        histogram=Histogram.added(part.histogram for part in parts),
        sum=str(sum(int(part.sum) for part in parts)),
        sum_of_squares=str(sum(int(part.sum_of_squares) for part in parts)),
    )


def _class(parts: Sequence[ClassFingerprint]) -> ClassFingerprint:
    return ClassFingerprint(
        name=parts[0].name,
        cases=sum(part.cases for part in parts),
        voxels=sum(part.voxels for part in parts),
    )
