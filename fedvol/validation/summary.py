"""From the cases of one site to sums that may leave it, with bootstrap replicates by subject."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from fedvol.federation.statistics import MetricSums
from fedvol.plan import derive_seed
from fedvol.privacy import JudgedCases
from fedvol.types import Digest, SiteId
from fedvol.validation.cases import CaseMetrics

_BLOCK_VALUES = 1 << 20


def summarise(
    rows: Sequence[CaseMetrics],
    *,
    keys: Sequence[str],
    replicates: int,
    key: Digest,
    site: SiteId,
) -> MetricSums:
    """Add up a site's cases, and the cases of each resample of its subjects.

    Of n subjects n - 1 are drawn with replacement, and every case of a drawn subject counts
    n / (n - 1) times: n draws would vary too little by the factor (n - 1) / n in each site, which
    many sites with few subjects do not average out. Which ones are drawn depends on key, site and
    number of subjects alone, in the order of their names: all models judged on the same subjects
    share the resamples, so the difference of two models is paired. Adding replicate r of every
    site gives replicate r of a bootstrap stratified by site.

    Args:
        rows: One per case, in any order.
        keys: Metrics that are summed, for example `metric_keys(...)`.
        replicates: Number of resamples; 0 where no interval is wanted.
        key: Seed of the draws. Whoever knows it can solve the sums for each subject's values, so
            at a hospital it is a secret of the site.
        site: The site the cases belong to.

    Raises:
        ValueError: A case of a subject is given twice. Two subjects may use one case name, as they
            do where the cases of several sites are pooled.

    Reference: Rao and Wu (1988), J. Am. Stat. Assoc. 83, 231-241, section 4 with m = n - 1.
    """
    if len({(row.subject, row.case) for row in rows}) < len(rows):
        raise ValueError("a case is given twice")
    ordered = sorted(rows, key=lambda row: (row.subject, row.case))
    names = sorted({row.subject for row in ordered})
    position = {name: index for index, name in enumerate(names)}
    subject = np.array([position[row.subject] for row in ordered], dtype=np.int64)
    behind = cases_behind(ordered, keys=keys)
    values = np.array(
        [[row.values[key] or 0.0 for key in keys] for row in ordered], dtype=np.float64
    ).reshape(behind.defined.shape)
    sums = np.zeros((len(names), len(keys)))
    counts = np.zeros((len(names), len(keys)), dtype=np.int64)
    np.add.at(sums, subject, values)
    np.add.at(counts, subject, behind.defined)
    subjects = np.count_nonzero(counts, axis=0).astype(np.int64)
    seed = derive_seed(key, "bootstrap", site)
    drawn_sums, drawn_counts = _resample(sums, counts=counts, replicates=replicates, seed=seed)
    return MetricSums(
        keys=tuple(keys),
        sums=np.concatenate([sums.sum(axis=0)[:, None], drawn_sums.T], axis=1),
        counts=np.concatenate([counts.sum(axis=0)[:, None], drawn_counts.T], axis=1),
        undefined=np.count_nonzero(~behind.defined, axis=0).astype(np.int64),
        penalised=np.count_nonzero(behind.penalised, axis=0).astype(np.int64),
        lone_sites=(subjects == 1).astype(np.int64),
    )


def cases_behind(rows: Sequence[CaseMetrics], *, keys: Sequence[str]) -> JudgedCases:
    """Whose each case is, and which metrics it has a value or a penalty under.

    Args:
        rows: One per case.
        keys: The metrics.
    """
    shape = (len(rows), len(keys))
    return JudgedCases(
        subjects=tuple(row.subject for row in rows),
        defined=np.array(
            [[row.values[key] is not None for key in keys] for row in rows], dtype=bool
        ).reshape(shape),
        penalised=np.array(
            [[key in row.penalised for key in keys] for row in rows], dtype=bool
        ).reshape(shape),
    )


def _resample(
    sums: Float[np.ndarray, "subject metric"],
    *,
    counts: Int[np.ndarray, "subject metric"],
    replicates: int,
    seed: int,
) -> tuple[Float[np.ndarray, "replicate metric"], Float[np.ndarray, "replicate metric"]]:
    """Weighted sums and counts of each resample; in blocks, so memory does not grow with them."""
    num, width = sums.shape
    drawn_sums = np.zeros((replicates, width))
    drawn_counts = np.zeros((replicates, width))
    if num == 0:
        return drawn_sums, drawn_counts
    draws = max(1, num - 1)  # one subject alone is drawn as it is: `lone_sites` says so
    weight = num / draws
    generator = np.random.Generator(np.random.PCG64(seed))
    block = max(1, _BLOCK_VALUES // (num * max(1, width)))
    for start in range(0, replicates, block):
        rows = slice(start, min(start + block, replicates))
        chosen = generator.integers(num, size=(rows.stop - start, draws))
        drawn_sums[rows] = weight * sums[chosen].sum(axis=1)
        drawn_counts[rows] = weight * counts[chosen].sum(axis=1)
    return drawn_sums, drawn_counts
