"""What a site notes of each case while checking it, for its fingerprint. Stays at the site."""

from collections.abc import Mapping
from dataclasses import dataclass

from fedvol.types import SubjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensities:
    """Intensities of a case's labelled voxels in one channel.

    Attributes:
        leaves: Leaves of `scales.INTENSITY` that hold a voxel, ascending.
        counts: Voxels in each.
        sum: Sum of intensities, in 1/1024.
        sum_of_squares: Sum of their squares, in 1/1024^2.
    """

    leaves: tuple[int, ...]
    counts: tuple[int, ...]
    sum: int
    sum_of_squares: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFacts:
    """One labelled case.

    Attributes:
        subject: Whose it is.
        shape: Voxels as read, RAS.
        spacing_mm: Voxel edges as read.
        voxels: Class name to voxels of it.
        intensities: One for each channel.
    """

    subject: SubjectId
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    voxels: Mapping[str, int]
    intensities: tuple[Intensities, ...]
