"""Training labels that a study does without: those of all but a few subjects of each site."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from fedvol.config.data import FewLabels
from fedvol.data.layout import CaseEntry
from fedvol.data.splits import Splits
from fedvol.errors import SplitError
from fedvol.types import SiteId, SubjectId


def with_few_labels(
    entries: Mapping[SiteId, Sequence[CaseEntry]], *, splits: Splits, config: FewLabels | None
) -> dict[SiteId, tuple[CaseEntry, ...]]:
    """The cases of each site, those of the training split without labels but for a few subjects.

    Args:
        entries: Cases of each site.
        splits: What each case is for.
        config: How many subjects keep their labels; None: all.
    """
    if config is None:
        return {site: tuple(cases) for site, cases in entries.items()}
    return {
        site: tuple(
            replace(one, label=None)
            if splits[site][one.case] == "train" and one.subject not in kept
            else one
            for one in cases
        )
        for site, cases in entries.items()
        for kept in [_kept(site, cases, splits=splits, config=config)]
    }


def require_known_sites(config: FewLabels | None, *, sites: Collection[SiteId]) -> None:
    """Refuse a number of labelled subjects for a site that is not there.

    Args:
        config: How many subjects keep their labels; None: all.
        sites: All sites of the federation.

    Raises:
        SplitError: A site that it names is none of them.
    """
    named = config.subjects if config is not None and not isinstance(config.subjects, int) else {}
    if unknown := sorted(named.keys() - set(sites)):
        raise SplitError(
            "data.few_labels.subjects",
            f"{', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} no site here",
            f"Name some of {', '.join(sorted(sites))}.",
        )


def _kept(
    site: SiteId, cases: Sequence[CaseEntry], *, splits: Splits, config: FewLabels
) -> frozenset[SubjectId]:
    """The first of the labelled training subjects, in an order that seed and names give."""
    labelled = {
        one.subject for one in cases if splits[site][one.case] == "train" and one.label is not None
    }
    number = config.subjects if isinstance(config.subjects, int) else config.subjects.get(site, 0)
    ranked = sorted(labelled, key=lambda subject: _rank(site, subject, seed=config.seed))
    return frozenset(ranked[:number])


def _rank(site: SiteId, subject: SubjectId, *, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{site}:{subject}".encode()).hexdigest()
