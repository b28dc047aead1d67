"""What comes out of a secure sum is the weighted mean of whoever uploaded, and nothing else."""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

import numpy as np
import pytest
from secure_sums import Sites, flat, keystream, names, random_updates

from fedvol.errors import FedvolError, NonFiniteUpdateError, SecureSumFailedError
from fedvol.privacy.secagg import (
    MaskedSum,
    SiteMasks,
    Terms,
    Upload,
    code_of,
    masked_upload,
    threshold,
)
from fedvol.privacy.secagg.body import BodyEncoder
from fedvol.privacy.secagg.context import Bits
from fedvol.privacy.secagg.masks import CHUNK_WORDS, Masks, apply_masks
from fedvol.types import SiteId, State

SIZES = (5, 1, 30)


def terms(*, bits: Bits = 32, sizes: tuple[int, ...] = SIZES, tail: tuple[str, ...] = ()) -> Terms:
    return Terms(num_values=sum(sizes), bits=bits, norm_bound=2.0, max_weight=50, tail=tail)


def plain_mean(updates: Mapping[SiteId, State], weights: Mapping[SiteId, int]) -> np.ndarray:
    rows = np.stack([weights[site] * flat(updates[site]) for site in weights])
    return rows.sum(axis=0) / sum(weights.values())


def largest_error(agreed: Terms, *, num_parties: int, uploaded: int, weight: int) -> float:
    """A step of a word for each site that uploaded, as it comes out of the mean."""
    code = code_of(agreed, num_parties=num_parties)
    return uploaded * agreed.max_weight / (code.scale * weight)


def drop_outs(num: int, *, every: bool) -> Iterator[tuple[int, tuple[SiteId, ...]]]:
    """Sets of sites that may be silent from a stage on and still leave enough: all, or some."""
    for lost in range(num - threshold(num) + 1):
        sets = list(combinations(names(num), lost))
        for stage in (1, 2, 3, 4) if lost else (1,):
            for silent in sets if every else [sets[len(sets) // 2]]:
                yield stage, silent


@pytest.mark.parametrize(
    ("num", "every"),
    [(3, True), (4, True), (8, False), pytest.param(8, True, marks=pytest.mark.full)],
)
def test_sum_is_the_plain_mean_of_whoever_uploaded(num: int, every: bool) -> None:
    for stage, silent in drop_outs(num, every=every):
        require_plain_mean(num, stage=stage, silent=silent)


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_twenty_sites_of_which_six_are_lost(stage: int) -> None:
    require_plain_mean(20, stage=stage, silent=names(20)[3:9])


def require_plain_mean(num: int, *, stage: int, silent: Collection[SiteId]) -> None:
    sites, agreed = names(num), terms(tail=("loss",))
    updates = random_updates(sites, sizes=SIZES, norm=1.5)
    figures = {site: (index / 8,) for index, site in enumerate(sites)}
    weights = {site: 1 + index for index, site in enumerate(sites)}
    found = Sites(terms=agreed, sites=sites).summed(
        updates, weights=weights, figures=figures, silent_at={stage: silent}
    )
    there = {site: weights[site] for site in sites if stage > 2 or site not in silent}
    assert found.weight == sum(there.values())
    assert found.figures == (sum(figures[site][0] for site in there),)
    bound = largest_error(agreed, num_parties=num, uploaded=len(there), weight=found.weight)
    assert np.abs(found.mean - plain_mean(updates, there)).max() <= bound + 1e-7


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
@pytest.mark.parametrize("num", [4, 8])
def test_below_the_threshold_nothing_comes_out(num: int, stage: int) -> None:
    sites = names(num)
    silent = sites[: num - threshold(num) + 1]
    updates = random_updates(sites, sizes=SIZES, norm=1.0)
    everybody = Sites(terms=terms(), sites=sites)
    with pytest.raises(FedvolError, match=r"needed|must"):
        everybody.summed(updates, weights=dict.fromkeys(sites, 1), silent_at={stage: silent})


@pytest.mark.parametrize("bits", [16, 32])
def test_threads_change_no_word(bits: Bits) -> None:
    sizes = (3 * CHUNK_WORDS + 17, 40_000)
    agreed = terms(bits=bits, sizes=sizes)
    update = random_updates(names(1), sizes=sizes, norm=1.0)[names(1)[0]]
    code = code_of(agreed, num_parties=3)
    masks = SiteMasks(body=Masks(added=(bytes(32),), subtracted=(bytes([1] * 32),)))

    def unmasked(num_threads: int) -> np.ndarray:
        upload = masked_upload(
            update,
            names=list(update),
            weight=50,
            figures=(),
            code=code,
            masks=masks,
            context=b"c" * 32,
            num_threads=num_threads,
        )
        total = MaskedSum(code)
        total.add(upload, site=SiteId("one"))
        return total.unmasked(masks, context=b"c" * 32, num_threads=num_threads).mean

    one, two = unmasked(1), unmasked(2)
    tolerance = 2 * largest_error(agreed, num_parties=3, uploaded=1, weight=50)
    if bits == 32:
        assert np.abs(one - flat(update)).max() <= tolerance
    # Rounding draws anew, so two uploads of one update are as far apart as a step.
    assert np.abs(one - two).max() <= (tolerance if bits == 32 else 16 * tolerance)
    words = np.arange(2 * CHUNK_WORDS + 5, dtype=np.uint32)
    alone, shared = words.copy(), words.copy()
    apply_masks(alone, masks.body)
    apply_masks(shared, masks.body, num_threads=2)
    assert np.array_equal(alone, shared)
    assert not np.array_equal(alone, words)


def test_16_bits_keep_the_mean_to_a_small_share_of_its_norm() -> None:
    sites, sizes = names(8), (30_000, 11)
    agreed = terms(bits=16, sizes=sizes)
    updates = random_updates(sites, sizes=sizes, norm=1.9)
    # One layer a hundred times as large as the rest: the rotation spreads it.
    for site, update in updates.items():
        row = flat(update) * np.repeat([1.0, 100.0], sizes)
        row *= 1.9 / np.linalg.norm(row)
        updates[site] = {"one": row.astype(np.float32)}
    weights = dict.fromkeys(sites, 50)
    found = Sites(terms=agreed, sites=sites).summed(updates, weights=weights)
    plain = plain_mean(updates, weights)
    assert np.linalg.norm(found.mean - plain) < 0.01 * np.linalg.norm(plain)


def test_updates_above_the_bound_are_clipped_to_it() -> None:
    sites = names(3)
    updates = random_updates(sites, sizes=SIZES, norm=6.0)
    found = Sites(terms=terms(), sites=sites).summed(updates, weights=dict.fromkeys(sites, 50))
    plain = plain_mean(updates, dict.fromkeys(sites, 50))
    assert found.mean == pytest.approx(plain / 3, abs=1e-6)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("sign", [1, -1])
def test_all_sites_at_the_largest_value_do_not_overflow(bits: Bits, sign: int) -> None:
    sites = names(8)
    agreed = Terms(num_values=1, bits=bits, norm_bound=2.0, max_weight=1)
    updates = {site: {"one": np.array([2.0 * sign], dtype=np.float32)} for site in sites}
    found = Sites(terms=agreed, sites=sites).summed(updates, weights=dict.fromkeys(sites, 1))
    assert found.mean == pytest.approx([2.0 * sign], abs=1e-2 if bits == 16 else 1e-6)


def test_rounding_has_no_bias() -> None:
    agreed = Terms(num_values=40_000, bits=32, norm_bound=1e6, max_weight=1)
    code = code_of(agreed, num_parties=100)
    value = 0.3 / code.scale  # three tenths of a step
    noise = keystream(bytes(32), num_words=40_000, dtype=np.dtype("<u4"))
    words = np.empty(40_000, dtype=code.dtype)
    values = np.full(40_000, value, dtype=np.float32)
    BodyEncoder(code, factor=1.0, size=40_000).encode(values, noise=noise, into=words)
    share = float(words.astype(np.float64).mean())
    standard_error = (0.3 * 0.7 / 40_000) ** 0.5
    assert abs(share - np.float32(value) * code.scale) < 4 * standard_error


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bits", [16, 32])
def test_what_is_not_finite_is_refused(value: float, bits: Bits) -> None:
    update = {"one": np.array([0.0, value], dtype=np.float32)}
    agreed = Terms(num_values=2, bits=bits, norm_bound=1.0, max_weight=1)
    with pytest.raises(NonFiniteUpdateError):
        masked_upload(
            update,
            names=["one"],
            weight=1,
            figures=(),
            code=code_of(agreed, num_parties=3),
            masks=SiteMasks(),
            context=b"c" * 32,
        )


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), 2.0**41])
def test_figures_that_could_spoil_the_tail_are_refused(figure: float) -> None:
    agreed = terms(tail=("loss",))
    update = random_updates(names(1), sizes=SIZES, norm=1.0)[names(1)[0]]
    with pytest.raises(NonFiniteUpdateError):
        masked_upload(
            update,
            names=list(update),
            weight=1,
            figures=(figure,),
            code=code_of(agreed, num_parties=3),
            masks=SiteMasks(),
            context=b"c" * 32,
        )


def test_uploads_of_another_size_are_not_added() -> None:
    code = code_of(terms(), num_parties=3)
    total = MaskedSum(code)
    good = Upload(body=np.zeros(code.num_words, dtype="<u4"), tail=np.zeros(1, dtype="<u8"))
    total.add(good, site=SiteId("a"))
    for bad in (
        Upload(body=np.zeros(code.num_words + 1, dtype="<u4"), tail=good.tail),
        Upload(body=np.zeros(code.num_words, dtype="<u2"), tail=good.tail),
        Upload(body=good.body, tail=np.zeros(2, dtype="<u8")),
    ):
        with pytest.raises(SecureSumFailedError, match="upload of site b"):
            total.add(bad, site=SiteId("b"))


def test_a_masked_upload_is_uniform_and_unlike_the_update_and_unlike_another_rounds() -> None:
    """Chi-squared over byte values, and correlations, with limits of about five standard errors."""
    size = 100_000
    sites, sizes = names(3), (size,)
    agreed = terms(sizes=sizes)
    updates = random_updates(sites, sizes=sizes, norm=1.0)
    site, uploads = sites[0], []
    for round_context in (b"1" * 32, b"2" * 32):
        everybody = Sites(terms=agreed, sites=sites, context=round_context)
        sealed = everybody.sealed(everybody.adverts())
        masks = everybody.parties[site].masks({other: sealed[other][site] for other in sites[1:]})
        upload = masked_upload(
            updates[site],
            names=["tensor.0"],
            weight=50,
            figures=(),
            code=code_of(agreed, num_parties=3),
            masks=masks,
            context=round_context,
        )
        counts = np.bincount(upload.body.view(np.uint8), minlength=256)
        expected = counts.sum() / 256
        chi_squared = float((np.square(counts - expected) / expected).sum())
        assert chi_squared < 255 + 5 * (2 * 255) ** 0.5
        uploads.append(upload.body.astype(np.float64))
    plain = flat(updates[site])
    for one, other in ((uploads[0], plain), (uploads[1], plain), (uploads[0], uploads[1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / size**0.5
