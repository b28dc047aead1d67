"""The cases a site can use, by split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedvol.data import CaseRecord
from fedvol.data.case_store import CaseStore, StoredCase
from fedvol.privacy import HeldSubjects
from fedvol.types import SiteId, SubjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCase:
    """One usable labelled case.

    Attributes:
        stored: Its prepared volumes.
        subject: Whose they are.
    """

    stored: StoredCase
    subject: SubjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCases:
    """What the checks left, and what they took.

    Attributes:
        train: Cases to train on.
        validation: Cases that choose the best round.
        test: Cases kept for the final figures.
        skipped: Cases left out, by error code.
        skipped_subjects: Subjects behind these.
    """

    train: tuple[SiteCase, ...]
    validation: tuple[SiteCase, ...]
    test: tuple[SiteCase, ...]
    skipped: Mapping[str, int]
    skipped_subjects: Mapping[str, int]

    @property
    def subjects(self) -> HeldSubjects:
        """Subjects behind every count of cases."""
        return HeldSubjects(
            training=_num_subjects(self.train),
            validation=_num_subjects(self.validation),
            test=_num_subjects(self.test),
            skipped=self.skipped_subjects,
        )


def open_cases(records: Sequence[CaseRecord], *, store: CaseStore) -> SiteCases:
    """Open every usable labelled case of one site's catalogue.

    Raises:
        CaseStoreError: A prepared case is absent or cut short. Other damage is found when the case
            is first read.
    """
    by_split: dict[str, list[SiteCase]] = {"train": [], "validation": [], "test": []}
    skipped: dict[str, list[SubjectId]] = {}
    for record in records:
        if not record.is_usable:
            skipped.setdefault(record.verdict, []).append(record.subject)
        elif record.is_labelled:
            case = SiteCase(stored=store.open(record.case), subject=record.subject)
            by_split[record.split].append(case)
    return SiteCases(
        train=tuple(by_split["train"]),
        validation=tuple(by_split["validation"]),
        test=tuple(by_split["test"]),
        skipped={code: len(subjects) for code, subjects in skipped.items()},
        skipped_subjects={code: len(set(subjects)) for code, subjects in skipped.items()},
    )


def pool(sites: Mapping[SiteId, SiteCases]) -> SiteCases:
    """All sites' cases as if one hospital held them; simulation only.

    No subject is at two sites (`data.splits` refuses it). The prefix says whose a subject is, and
    keeps cases of one name at two sites apart.
    """

    def union(split: str) -> tuple[SiteCase, ...]:
        return tuple(
            SiteCase(stored=case.stored, subject=SubjectId(f"{site}/{case.subject}"))
            for site in sorted(sites)
            for case in getattr(sites[site], split)
        )

    return SiteCases(
        train=union("train"),
        validation=union("validation"),
        test=union("test"),
        skipped={},
        skipped_subjects={},
    )


def _num_subjects(cases: Sequence[SiteCase]) -> int:
    return len({case.subject for case in cases})
