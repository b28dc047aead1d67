"""Sums and bootstrap replicates of a site, against bootstraps computed the plain way."""

import numpy as np
import pytest
from scipy import stats

from fedvol.federation.statistics import MetricSums, difference, merge
from fedvol.plan import derive_seed
from fedvol.types import CaseId, Digest, SiteId, SubjectId
from fedvol.validation import CaseMetrics, summarise

PLAN = Digest("ab" * 32)
SITE = SiteId("north")


def rows(
    cases: list[tuple[str, float | None]], *, penalised: frozenset[int] = frozenset()
) -> list[CaseMetrics]:
    return [
        CaseMetrics(
            case=CaseId(f"c{index:03}"),
            subject=SubjectId(subject),
            values={"dice": value},
            penalised=frozenset({"dice"}) if index in penalised else frozenset(),
        )
        for index, (subject, value) in enumerate(cases)
    ]


def sums_of(cases: list[CaseMetrics], *, replicates: int = 200, site: SiteId = SITE, plan=PLAN):
    return summarise(cases, keys=("dice",), replicates=replicates, key=plan, site=site)


def one_per_subject(values: np.ndarray) -> list[CaseMetrics]:
    return rows([(f"s{index:04}", float(value)) for index, value in enumerate(values)])


def pooled(values: np.ndarray, *, replicates: int = 200, key: Digest = PLAN) -> MetricSums:
    """Several sites' sums together; one row of values a site, one subject a value."""
    return merge(
        [
            sums_of(one_per_subject(row), replicates=replicates, site=SiteId(f"h{site}"), plan=key)
            for site, row in enumerate(values)
        ]
    )


def naive(cases: list[CaseMetrics], *, replicates: int, site: SiteId) -> list[list[float]]:
    """Values of each replicate: draw one subject fewer than there are, take all their cases."""
    subjects = sorted({row.subject for row in cases})
    seed = derive_seed(PLAN, "bootstrap", site)
    draws = np.random.Generator(np.random.PCG64(seed)).integers(
        len(subjects), size=(replicates, len(subjects) - 1)
    )
    return [
        [
            row.values["dice"]
            for index in draw
            for row in cases
            if row.subject == subjects[index] and row.values["dice"] is not None
        ]
        for draw in draws
    ]


def test_of_two_subjects_one_is_drawn_and_counts_twice() -> None:
    """Subject p has cases .2 and .4, q has 1.0: the sums are 1.2 or 2.0."""
    found = sums_of(rows([("p", 0.2), ("q", 1.0), ("p", 0.4)]), replicates=400)
    assert found.sums[0, 0] == pytest.approx(1.6)
    assert found.counts[0, 0] == 3
    pairs = {
        (round(s, 9), float(n)) for s, n in zip(found.sums[0, 1:], found.counts[0, 1:], strict=True)
    }
    assert pairs == {(1.2, 4.0), (2.0, 2.0)}
    assert np.mean(found.counts[0, 1:] == 4) == pytest.approx(0.5, abs=0.1)
    assert found.stat("dice").value == pytest.approx(1.6 / 3)


def test_undefined_and_penalised_cases_are_counted() -> None:
    cases = rows([("p", None), ("q", 0.0), ("q", 1.0)], penalised=frozenset({1}))
    stat = sums_of(cases).stat("dice")
    assert (stat.value, stat.n, stat.undefined, stat.penalised) == (0.5, 2, 1, 1)


def test_replicates_without_a_defined_case_are_left_out_of_the_interval() -> None:
    found = sums_of(rows([("p", None), ("q", 0.5), ("r", 0.5)]))
    assert np.isnan(found.replicates("dice")).any()
    stat = found.stat("dice")
    assert (stat.low, stat.high) == (0.5, 0.5)


def test_sites_merge_to_a_stratified_bootstrap_of_all_cases() -> None:
    generator = np.random.default_rng(3)
    north = rows([(f"s{i % 4}", float(v)) for i, v in enumerate(generator.random(9))])
    south = rows(
        [(f"s{i % 3}", float(v)) for i, v in enumerate(generator.random(5))] + [("s9", None)]
    )
    other = SiteId("south")
    merged = merge([sums_of(north), sums_of(south, site=other)])
    pairs = zip(
        naive(north, replicates=200, site=SITE),
        naive(south, replicates=200, site=other),
        strict=True,
    )
    # 4 subjects in the north (9 cases) and 4 in the south (6): each case drawn counts 4/3 times.
    expected = [np.mean([*a, *b]) for a, b in pairs]
    np.testing.assert_allclose(merged.replicates("dice"), expected, rtol=1e-12)
    everything = [row.values["dice"] for row in (*north, *south) if row.values["dice"] is not None]
    assert merged.stat("dice").value == pytest.approx(np.mean(everything))
    assert merged.stat("dice").n == 14


def test_order_of_cases_changes_nothing() -> None:
    cases = rows([(f"s{i % 5}", i / 7) for i in range(11)])
    one, other = sums_of(cases), sums_of(cases[::-1])
    np.testing.assert_array_equal(one.sums, other.sums)
    np.testing.assert_array_equal(one.counts, other.counts)


def test_resamples_depend_on_plan_and_site_and_not_on_the_values() -> None:
    values = np.random.default_rng(0).random(12)
    base = sums_of(one_per_subject(values))
    doubled = sums_of(one_per_subject(2 * values))
    np.testing.assert_allclose(doubled.sums, 2 * base.sums, rtol=1e-12)
    assert (sums_of(one_per_subject(values), site=SiteId("south")).sums != base.sums).any()
    assert (sums_of(one_per_subject(values), plan=Digest("cd" * 32)).sums != base.sums).any()


def test_a_constant_gap_between_two_models_has_an_interval_without_width() -> None:
    values = np.random.default_rng(1).random(20)
    found = difference(
        sums_of(one_per_subject(values + 0.25)), sums_of(one_per_subject(values)), key="dice"
    )
    assert found.value == pytest.approx(0.25)
    assert (found.low, found.high) == (pytest.approx(0.25), pytest.approx(0.25))


def test_blocks_do_not_change_the_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = one_per_subject(np.random.default_rng(2).random(7))
    whole = sums_of(cases)
    monkeypatch.setattr("fedvol.validation.summary._BLOCK_VALUES", 50)
    np.testing.assert_array_equal(sums_of(cases).sums, whole.sums)


def test_interval_is_scipys_percentile_bootstrap_widened_for_the_subject_not_drawn() -> None:
    values = np.random.default_rng(5).beta(8, 2, size=30)
    stat = sums_of(one_per_subject(values), replicates=10_000).stat("dice")
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(6)
    ).confidence_interval
    widened = np.sqrt(30 / 29)
    mean = values.mean()
    assert stat.low == pytest.approx(mean - (mean - expected.low) * widened, abs=0.005)
    assert stat.high == pytest.approx(mean + (expected.high - mean) * widened, abs=0.005)


@pytest.mark.parametrize(("num_sites", "per_site"), [(20, 2), (4, 5)])
def test_the_variance_of_a_mean_over_small_sites_is_unbiased(num_sites: int, per_site: int) -> None:
    """The replicates vary as the textbook's stratified variance, s squared / n a site, says."""
    values = np.random.default_rng(12).normal(0.7, 0.1, size=(num_sites, per_site))
    spread = np.std(pooled(values, replicates=4000).replicates("dice"))
    textbook = np.sqrt(np.sum(values.var(axis=1, ddof=1) / per_site)) / num_sites
    assert spread == pytest.approx(textbook, rel=0.05)


@pytest.mark.parametrize(("num_sites", "per_site"), [(20, 2), (4, 5)])
def test_interval_over_small_sites_covers_the_truth(num_sites: int, per_site: int) -> None:
    """Drawing n of n subjects a site, it covers in 80 and 88 % of the studies."""
    hits = 0
    for study in range(250):
        generator = np.random.default_rng([9, num_sites, study])
        values = generator.normal(0.7, 0.1, size=(num_sites, per_site))
        stat = pooled(values, key=Digest(f"{study:064x}")).stat("dice")
        hits += stat.low <= 0.7 <= stat.high
    assert 0.895 <= hits / 250 <= 0.985


def test_two_models_alike_are_seldom_told_apart_on_small_sites() -> None:
    """Drawing n of n subjects a site, the interval leaves 0 in 15 % of the studies."""
    false = 0
    for study in range(200):
        generator = np.random.default_rng([10, study])
        key = Digest(f"{study:064x}")
        subject = generator.normal(0.7, 0.1, size=(20, 2))
        a, b = (
            pooled(subject + generator.normal(0, 0.03, size=(20, 2)), key=key) for _ in range(2)
        )
        found = difference(a, b, key="dice")
        false += not found.low <= 0 <= found.high
    assert false / 200 <= 0.10


def test_interval_by_subject_covers_the_truth_about_95_percent() -> None:
    """Two cases a subject that share the subject's effect; 300 studies of 40 subjects."""
    generator = np.random.default_rng(8)
    hits = 0
    for study in range(300):
        effect = np.repeat(generator.normal(0.7, 0.1, size=40), 2)
        values = effect + generator.normal(0, 0.05, size=80)
        cases = rows([(f"s{i // 2:02}", float(v)) for i, v in enumerate(values)])
        stat = sums_of(cases, replicates=300, site=SiteId(f"study-{study}")).stat("dice")
        hits += stat.low <= 0.7 <= stat.high
    assert 0.90 <= hits / 300 <= 0.985


def test_a_site_without_cases_adds_nothing() -> None:
    empty = sums_of([])
    assert not empty.sums.any()
    assert not empty.counts.any()
    assert empty.stat("dice").value is None
    some = sums_of(one_per_subject(np.array([0.1, 0.9])), site=SiteId("south"))
    merged = merge([empty, some])
    np.testing.assert_array_equal(merged.sums, some.sums)


def test_a_case_given_twice_is_refused() -> None:
    cases = rows([("p", 0.5)])
    with pytest.raises(ValueError, match="twice"):
        sums_of(cases + cases)


def test_pooled_sites_may_use_one_case_name() -> None:
    """As `client.cases.pool` gives them: the subject is prefixed, the case is not."""
    cases = [*rows([("north/p", 0.5)]), *rows([("south/q", 1.0)])]
    assert cases[0].case == cases[1].case
    found = sums_of(cases)
    assert found.counts[0, 0] == 2
    assert found.stat("dice").value == 0.75


def test_a_lone_subject_is_one_with_a_value() -> None:
    found = sums_of(rows([("p", 0.2), ("p", 0.4), ("q", None), ("r", 1.0)]))
    assert found.lone_sites.tolist() == [0]
    assert found.stat("dice").low is not None
    lone = sums_of(rows([("p", 0.2), ("p", 0.4), ("q", None), ("r", None)]))
    assert lone.lone_sites.tolist() == [1]
    assert lone.stat("dice").value == pytest.approx(0.3)
    assert lone.stat("dice").low is None
    assert merge([found, lone]).stat("dice").low is None


def test_without_replicates_there_are_only_sums() -> None:
    found = sums_of(rows([("p", 0.5), ("q", 1.0)]), replicates=0)
    assert found.sums.tolist() == [[1.5]]
    assert found.counts.tolist() == [[2]]
    assert found.stat("dice").low is None
