"""What the records of all cases together forbid: the same image twice, too few usable cases."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from fedvol.config.data import DataRequirement
from fedvol.data.catalogue import CaseRecord
from fedvol.errors import DuplicateVolumeError, NoCasesError, TooManySkippedError
from fedvol.types import Digest, SiteId

_MAX_LISTED: Final = 20


def without_duplicates(records: Sequence[CaseRecord]) -> tuple[CaseRecord, ...]:
    """Skip the second of two usable cases with the same image at one site, in one split.

    Raises:
        DuplicateVolumeError: One image is at two sites or in two splits, so that a model would be
            judged on what it was trained on; names every pair.
    """
    first: dict[Digest, CaseRecord] = {}
    judged: list[CaseRecord] = []
    fatal: list[str] = []
    for record in records:
        earlier = first.setdefault(record.content, record) if record.is_usable else record
        if earlier is record:
            judged.append(record)
            continue
        if (earlier.site, earlier.split) != (record.site, record.split):
            fatal.append(f"{_place(earlier)} and {_place(record)}")
        error = DuplicateVolumeError(
            f"case {record.site}/{record.case}",
            f"holds the same image as case {earlier.site}/{earlier.case}",
            "Keep one of the two.",
        )
        judged.append(replace(record, verdict=error.code, reason=str(error)))
    if fatal:
        raise DuplicateVolumeError(
            "cases",
            f"the same image is at two sites or in two splits: {_some(fatal)}",
            "Take one of each pair out of the case table.",
        )
    return tuple(judged)


def require_enough_cases(
    records: Sequence[CaseRecord],
    *,
    requirement: DataRequirement,
    pretrains: bool,
    is_whole: bool = True,
) -> None:
    """Refuse sites that lost too many cases or have none to train on, and data without test cases.

    One skipped case is never too many, however small the site. A site where no case has a label is
    not refused: it sits out supervised stages. So does, where the study pretrains, one with
    unlabelled training cases alone. A site may lack validation or test cases, if not all sites do.

    Args:
        records: Every case.
        requirement: What the study asks of the data: the share of a site's cases that may be
            skipped, and whether it does without most labels, so that a site may lack training
            cases.
        pretrains: Whether the study pretrains.
        is_whole: Whether these are all sites of the federation, among which there must be cases of
            every split.

    Raises:
        TooManySkippedError: Names every skipped case of every such site.
        NoCasesError: A site with labels has no usable case to train on, or no site has a usable
            labelled training case, or none a validation case, or none a test case.
    """
    sites = {record.site: [r for r in records if r.site == record.site] for record in records}
    excess = [
        f"{site} skips {len(skipped)} of {len(cases)} cases ("
        + _some(f"{r.case} {r.verdict}" for r in skipped)
        + ")"
        for site, cases in sites.items()
        if len(skipped := [r for r in cases if not r.is_usable]) > 1
        and len(skipped) > requirement.max_skipped_share * len(cases)
    ]
    if excess:
        first = next(r for r in records if not r.is_usable)
        raise TooManySkippedError(
            "cases",
            f"{'; '.join(excess)}; the study allows "
            f"{requirement.max_skipped_share:.0%} of a site's cases; the first of them: "
            f"{first.reason.rstrip('.')}",
            "Mend the cases, or raise data.max_skipped_share in the study.",
        )
    empty = [site for site, cases in sites.items() if _lacks_training(cases, pretrains=pretrains)]
    if empty and requirement.few_labels is None:
        raise NoCasesError(
            "cases",
            f"no usable {'' if pretrains else 'labelled '}training case at {', '.join(empty)}",
            "Add cases to the site or leave the site out.",
        )
    held = {record.split for record in records if record.is_usable and record.is_labelled}
    words = {"train": "training", "validation": "validation", "test": "test"}
    lacking = [word for split, word in words.items() if split not in held]
    if lacking and is_whole:
        raise NoCasesError(
            "cases",
            f"no site has a usable labelled {' or '.join(lacking)} case",
            "Add such cases, mend those that were skipped, or change data.split in the study.",
        )


def _lacks_training(cases: Sequence[CaseRecord], *, pretrains: bool) -> bool:
    """Whether a site with labels has nothing to train on."""
    trains = any(
        one.is_usable and one.split == "train" and (one.is_labelled or pretrains) for one in cases
    )
    return any(one.is_labelled for one in cases) and not trains


def _place(record: CaseRecord) -> str:
    return f"{record.site}/{record.case} ({record.split})"


def _some(texts: Iterable[SiteId | str]) -> str:
    listed = list(texts)
    rest = len(listed) - _MAX_LISTED
    return ", ".join(listed[:_MAX_LISTED]) + (f" and {rest} more" if rest > 0 else "")
