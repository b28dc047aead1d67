"""Training labels that a study does without: those of all but a few subjects of each site."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fedvol.config.data import FewLabels
from fedvol.data.layout import CaseEntry
from fedvol.data.splits import Splits
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
