"""What a site knows about each of its cases, and where it keeps that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from fedvol.data.case_table import SplitName
from fedvol.plan import CaseFacts, Intensities
from fedvol.types import CaseId, Digest, SiteId, SubjectId

AffineRows = tuple[
    tuple[float, float, float, float],
    tuple[float, float, float, float],
    tuple[float, float, float, float],
    tuple[float, float, float, float],
]
"""A 4x4 affine, row by row."""


NO_DIGEST: Final = Digest("")
"""Where there is nothing to digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRecord:
    """One case after ingestion. Stays at the site.

    Attributes:
        site: Hospital.
        case: Name, unique inside the site.
        subject: Pseudonym of the patient.
        split: What the case is for.
        images: Image files, relative to the data folder.
        label: Label file, relative to the data folder; None for a case without one.
        shape: Voxels as read, RAS; None where the case could not be read.
        spacing_mm: Voxel edges as read; None where the case could not be read.
        affine: Voxel index as read to millimetres; None where the case could not be read.
        checksum: SHA-256 of the image files' bytes; "" where they could not be read.
        label_checksum: SHA-256 of the label file's bytes; "" without one.
        content: SHA-256 of the voxels, equal for one image in two encodings; "" where not read.
        voxels: Class name to voxels of it, as read; None without a label.
        intensities: Each channel in the labelled voxels, as read; None without a label.
        verdict: "" for a usable case, else the code of the error for which it is skipped.
        reason: The error's message; "" for a usable case. Never leaves the site.
    """

    site: SiteId
    case: CaseId
    subject: SubjectId
    split: SplitName
    images: tuple[str, ...]
    label: str | None
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    affine: AffineRows | None = None
    checksum: Digest = NO_DIGEST
    label_checksum: Digest = NO_DIGEST
    content: Digest = NO_DIGEST
    voxels: Mapping[str, int] | None = None
    intensities: tuple[Intensities, ...] | None = None
    verdict: str = ""
    reason: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether the case passed every check."""
        return self.verdict == ""

    @property
    def facts(self) -> CaseFacts | None:
        """What planning may know of the case; None unless it is usable and labelled."""
        if not self.is_usable or self.shape is None or self.spacing_mm is None:
            return None
        if self.voxels is None or self.intensities is None:
            return None
        return CaseFacts(
            subject=self.subject,
            shape=self.shape,
            spacing_mm=self.spacing_mm,
            voxels=self.voxels,
            intensities=self.intensities,
        )

    @property
    def is_labelled(self) -> bool:
        """Whether the case comes with a label, usable or not."""
        return self.label is not None


class Catalogue(Protocol):
    """Keeps the records of a site."""

    def add(self, records: Sequence[CaseRecord]) -> None:
        """Keep records, all or none; a record of the same site and case is replaced."""
        ...

    def replace(self, records: Sequence[CaseRecord]) -> None:
        """Keep exactly these records, all or none."""
        ...

    def records(self) -> tuple[CaseRecord, ...]:
        """Every record, by site and case."""
        ...
