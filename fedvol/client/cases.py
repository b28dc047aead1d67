"""The cases a site can use, by split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fedvol.data import CaseRecord
from fedvol.data.case_store import CaseStore, StoredCase
from fedvol.privacy import HeldSubjects
from fedvol.privacy.floors import is_small
from fedvol.types import SiteId, SubjectId


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCase:
    """One usable case.

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
        train: Labelled cases to train on.
        validation: Labelled cases that choose the best round.
        test: Labelled cases kept for the final figures.
        unlabelled: Cases of the training split without a label.
        unlabelled_validation: Cases of the validation split without one.
        skipped: Cases left out, by error code.
        skipped_subjects: Subjects behind these.
    """

    train: tuple[SiteCase, ...]
    validation: tuple[SiteCase, ...]
    test: tuple[SiteCase, ...]
    skipped: Mapping[str, int]
    skipped_subjects: Mapping[str, int]
    unlabelled: tuple[SiteCase, ...] = ()
    unlabelled_validation: tuple[SiteCase, ...] = ()

    @property
    def pretrain(self) -> tuple[SiteCase, ...]:
        """Cases to pretrain on: all of the training split."""
        return (*self.train, *self.unlabelled)

    @property
    def pretrain_validation(self) -> tuple[SiteCase, ...]:
        """Cases that choose the best round of pretraining: all of the validation split."""
        return (*self.validation, *self.unlabelled_validation)

    def without_few_unlabelled(self, *, floor: int) -> "SiteCases":
        """The same, but for the unlabelled cases of a split if they are of fewer subjects.

        Two counts, of all cases and of the labelled ones, would tell how many have no label.

        Args:
            floor: The site's.
        """

        def unless_few(cases: tuple[SiteCase, ...]) -> tuple[SiteCase, ...]:
            return () if is_small(_num_subjects(cases), floor=floor) else cases

        return replace(
            self,
            unlabelled=unless_few(self.unlabelled),
            unlabelled_validation=unless_few(self.unlabelled_validation),
        )

    @property
    def subjects(self) -> HeldSubjects:
        """Subjects behind every count of cases."""
        return HeldSubjects(
            training=_num_subjects(self.train),
            pretraining=_num_subjects(self.pretrain),
            validation=_num_subjects(self.validation),
            test=_num_subjects(self.test),
            skipped=self.skipped_subjects,
        )


def open_cases(records: Sequence[CaseRecord], *, store: CaseStore) -> SiteCases:
    """Open every usable case of one site's catalogue.

    Raises:
        CaseStoreError: A prepared case is absent or cut short. Other damage is found when the case
            is first read.
    """
    labelled: dict[str, list[SiteCase]] = {"train": [], "validation": [], "test": []}
    bare: dict[str, list[SiteCase]] = {"train": [], "validation": [], "test": []}
    skipped: dict[str, list[SubjectId]] = {}
    for record in records:
        if not record.is_usable:
            skipped.setdefault(record.verdict, []).append(record.subject)
        else:
            case = SiteCase(stored=store.open(record.case), subject=record.subject)
            (labelled if record.is_labelled else bare)[record.split].append(case)
    return SiteCases(
        train=tuple(labelled["train"]),
        validation=tuple(labelled["validation"]),
        test=tuple(labelled["test"]),
        unlabelled=tuple(bare["train"]),
        unlabelled_validation=tuple(bare["validation"]),
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
        unlabelled=union("unlabelled"),
        unlabelled_validation=union("unlabelled_validation"),
        skipped={},
        skipped_subjects={},
    )


def _num_subjects(cases: Sequence[SiteCase]) -> int:
    return len({case.subject for case in cases})
