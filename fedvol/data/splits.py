"""Who is for training, validation and test: by subject, reproducible, never two at once."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import assert_never

from fedvol.config.data import ColumnSplit, FoldSplit, HashSplit, Split
from fedvol.data.case_table import SplitName, subject_key
from fedvol.data.layout import CaseEntry
from fedvol.errors import SplitError, SubjectOverlapError
from fedvol.types import CaseId, SiteId, SubjectId

Splits = Mapping[SiteId, Mapping[CaseId, SplitName]]
"""What each case of each site is for."""

_MIN_SUBJECTS = 3
"""Fewest subjects of a site that a hash split divides; a smaller site only trains."""


def assign_splits(
    entries: Mapping[SiteId, Sequence[CaseEntry]], *, config: Split
) -> dict[SiteId, dict[CaseId, SplitName]]:
    """Say for every case whether it is for training, validation or test.

    Args:
        entries: Cases of each site.
        config: The study's rule. Folds: the named two, all others train. Column: as the table
            says. Hash: per site, subjects in order of SHA-256(salt:subject); the first
            `test_share` of them test, the next `validation_share` validate, the rest train, each
            at least one where the site has three.

    Raises:
        SplitError: A named fold, or the column itself, is not in the data.
        SubjectOverlapError: A subject falls in two splits or is at two sites.
    """
    match config:
        case FoldSplit():
            splits = _by_fold(entries, config=config)
        case ColumnSplit():
            splits = _by_column(entries)
        case HashSplit():
            splits = {site: _by_hash(site, cases, config) for site, cases in entries.items()}
        case _:
            assert_never(config)
    require_disjoint_subjects(entries, splits=splits)
    return splits


def require_disjoint_subjects(
    entries: Mapping[SiteId, Sequence[CaseEntry]], *, splits: Splits
) -> None:
    """Refuse a subject in two splits or at two sites; spelling by case and spaces is one subject.

    Raises:
        SubjectOverlapError: Names every such subject.
    """
    places: dict[str, dict[tuple[SiteId, SplitName], CaseEntry]] = {}
    for site, cases in entries.items():
        for entry in cases:
            place = (site, splits[site][entry.case])
            places.setdefault(subject_key(entry.subject), {}).setdefault(place, entry)
    found = [
        f"{next(iter(where.values())).subject} ("
        + ", ".join(f"{site} {split} case {where[site, split].case}" for site, split in where)
        + ")"
        for where in places.values()
        if len(where) > 1
    ]
    if found:
        noun = "subject is" if len(found) == 1 else "subjects are"
        raise SubjectOverlapError(
            "splits",
            f"{len(found)} {noun} in two splits or at two sites: {'; '.join(sorted(found))}",
            "Give all cases of a patient to one site and one split, and patients distinct names.",
        )


def _by_fold(
    entries: Mapping[SiteId, Sequence[CaseEntry]], *, config: FoldSplit
) -> dict[SiteId, dict[CaseId, SplitName]]:
    _require_column(entries, column="fold")
    present = {entry.fold for cases in entries.values() for entry in cases}
    missing = sorted({config.test, config.validation} - present)
    if missing:
        folds = ", ".join(str(fold) for fold in sorted(f for f in present if f is not None))
        raise SplitError(
            "data.split",
            f"fold {' and '.join(map(str, missing))} is not in the data, which has {folds}",
            "Name folds of the case table.",
        )
    names: dict[int | None, SplitName] = {config.validation: "validation", config.test: "test"}
    return {
        site: {entry.case: names.get(entry.fold, "train") for entry in cases}
        for site, cases in entries.items()
    }


def _by_column(
    entries: Mapping[SiteId, Sequence[CaseEntry]],
) -> dict[SiteId, dict[CaseId, SplitName]]:
    _require_column(entries, column="split")
    return {
        site: {entry.case: entry.split for entry in cases if entry.split is not None}
        for site, cases in entries.items()
    }


def _require_column(entries: Mapping[SiteId, Sequence[CaseEntry]], *, column: str) -> None:
    lacking = [
        site
        for site, cases in entries.items()
        if any(getattr(entry, column) is None for entry in cases)
    ]
    if lacking:
        sites = "at any site" if len(lacking) == len(entries) else f"at {', '.join(lacking)}"
        raise SplitError(
            "data.split",
            f"the study splits by the column {column}, which the case table lacks {sites}",
            'Add the column to the case table, or split with kind = "hash".',
        )


def _by_hash(
    site: SiteId, cases: Sequence[CaseEntry], config: HashSplit
) -> dict[CaseId, SplitName]:
    ranked = sorted({entry.subject for entry in cases}, key=lambda s: _rank(s, salt=config.salt))
    num = len(ranked)
    if num < _MIN_SUBJECTS:
        return {entry.case: "train" for entry in cases}
    num_test = max(1, round(num * config.test_share))
    num_validation = max(1, round(num * config.validation_share))
    if num_test + num_validation >= num:
        raise SplitError(
            "data.split",
            f"site {site} has {num} subjects; {num_test} for test and {num_validation} for "
            "validation leave none to train",
            "Lower test_share or validation_share.",
        )
    names: dict[SubjectId, SplitName] = dict.fromkeys(ranked, "train")
    names.update(dict.fromkeys(ranked[:num_test], "test"))
    names.update(dict.fromkeys(ranked[num_test : num_test + num_validation], "validation"))
    return {entry.case: names[entry.subject] for entry in cases}


def _rank(subject: SubjectId, *, salt: str) -> str:
    return hashlib.sha256(f"{salt}:{subject}".encode()).hexdigest()
