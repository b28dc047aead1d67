"""The cases a site can use, by split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedvol.data import CaseRecord
from fedvol.data.case_store import CaseStore, StoredCase
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
    """

    train: tuple[SiteCase, ...]
    validation: tuple[SiteCase, ...]
    test: tuple[SiteCase, ...]
    skipped: Mapping[str, int]

    @property
    def training_subjects(self) -> int:
        """Subjects behind the training cases."""
        return len({case.subject for case in self.train})


def open_cases(records: Sequence[CaseRecord], *, store: CaseStore) -> SiteCases:
    """Open every usable labelled case of one site's catalogue.

    Raises:
        CaseStoreError: A prepared case is damaged.
    """
    by_split: dict[str, list[SiteCase]] = {"train": [], "validation": [], "test": []}
    skipped: dict[str, int] = {}
    for record in records:
        if not record.is_usable:
            skipped[record.verdict] = skipped.get(record.verdict, 0) + 1
        elif record.is_labelled:
            case = SiteCase(stored=store.open(record.case), subject=record.subject)
            by_split[record.split].append(case)
    return SiteCases(
        train=tuple(by_split["train"]),
        validation=tuple(by_split["validation"]),
        test=tuple(by_split["test"]),
        skipped=skipped,
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
        train=union("train"), validation=union("validation"), test=union("test"), skipped={}
    )
