"""What a sweep's page and table say, and what they cannot be misread for."""

import pytest

from fedvol.report.result import StatResult
from fedvol.report.sweep_page import render_sweep, render_sweep_markdown, sweep_table
from fedvol.report.sweep_result import (
    SweepDifference,
    SweepPoint,
    SweepResult,
    SweepRunResult,
    SweepTarget,
    SweepVariantResult,
)

FORGED = "<script>alert(1)</script>|"


def run(pretraining: str, seed: int, *, status: str = "finished") -> SweepRunResult:
    """One run; those that pretrain share one pretraining."""
    finished = status == "finished"
    return SweepRunResult.model_validate(
        {
            "variant": {"pretraining": pretraining},
            "seed": seed,
            "status": status,
            "reason": FORGED if status == "failed" else "",
            "folder": f"runs/{pretraining}/seed-{seed}",
            "finetune_steps": 60,
            "pretrain_steps": 0 if pretraining == "scratch" else 40,
            "pretrained_by": "" if pretraining == "scratch" else "mae/seed-9",
            "finetune_seconds": 12.0 if finished else None,
            "value": 0.5 if finished else None,
            "curve": [SweepPoint(steps=n, value=n / 100) for n in (30, 60)] if finished else [],
        }
    )


def variant(pretraining: str, **fields: object) -> SweepVariantResult:
    """What a variant comes to."""
    return SweepVariantResult.model_validate(
        {
            "variant": {"pretraining": pretraining},
            "seeds": 2,
            "stat": StatResult(value=0.8, n=40, low=0.75, high=0.85, undefined=0, penalised=3),
            "lowest": 0.79,
            "highest": 0.81,
            "reached": 2,
            "steps_to_target": 45.0,
            **fields,
        }
    )


def result_of(
    *, runs: list[SweepRunResult], variants: list[SweepVariantResult], target: bool = True
) -> SweepResult:
    """A sweep of one axis."""
    of = {"pretraining": "scratch"}
    return SweepResult(
        study="tiny",
        purpose="Compare.",
        metric="dice",
        curve_metric="dice",
        test_cases=40,
        test_subjects=21,
        sites=4,
        seeds=[0, 1],
        axes={"pretraining": ["scratch", "mae"]},
        baseline=of,
        target=SweepTarget(value=0.75, share=0.9, of=of) if target else None,
        runs=runs,
        variants=variants,
    )


@pytest.fixture
def result() -> SweepResult:
    better = SweepDifference(value=0.03, low=0.01, high=0.05, lowest=-0.02, highest=0.06, seeds=2)
    return result_of(
        runs=[run(name, seed) for name in ("scratch", "mae") for seed in (0, 1)],
        variants=[
            variant("scratch", reached=1, steps_to_target=None),
            variant("mae", difference=better),
        ],
    )


def test_every_figure_has_its_interval_its_seeds_and_its_budget(result: SweepResult) -> None:
    for text in (render_sweep(result), render_sweep_markdown(result)):
        for words in ("0.800", "0.750 to 0.850", "3 penalised", "2 seeds: 0.790 to 0.810"):
            assert words in text
        for words in ("+0.030", "+0.010 to +0.050", "seeds \u22120.020 to +0.060"):
            assert words in text
        assert "40 test cases of 21 subjects" in text
        assert "60" in text
        assert "not reached (1 of 2 seeds)" in text
        assert "validation Dice 0.750, 90 % of what pretraining scratch ends with" in text


def test_the_page_tells_baseline_pretraining_and_simulation(result: SweepResult) -> None:
    page = render_sweep(result)
    assert ">baseline<" in page
    assert "after 40 of pretraining" in page
    assert "no pretraining" in page
    assert "pretrained by <code>mae/seed-9</code>" in page
    assert "nothing here is a promise of privacy" in page
    assert page.count("<svg") == 1


def test_the_table_for_a_terminal_has_a_row_a_variant(result: SweepResult) -> None:
    head, scratch, mae = sweep_table(result).splitlines()
    assert head.split() == ["pretraining", "Dice", "seeds", "difference"]
    assert scratch.startswith("scratch")
    assert mae.endswith("+0.030 (+0.010 to +0.050; seeds \u22120.020 to +0.060)")


def test_what_failed_or_is_not_there_is_told_and_escaped() -> None:
    runs = [run("scratch", 0), run("scratch", 1, status="not run"), run("mae", 0, status="failed")]
    result = result_of(runs=runs, variants=[variant("scratch", seeds=1)], target=False)
    page, table = render_sweep(result), render_sweep_markdown(result)
    assert "1 not run yet, 1 failed" in page
    assert "1 of 3 runs are not there yet" in table
    assert "Failed: runs/mae/seed-0" in table
    assert FORGED not in page
    assert FORGED not in table
    assert "one seed" in page
    assert "target" not in page


def test_the_table_is_one_for_markdown() -> None:
    """A blank line would end it before its first row."""
    runs, variants = [run("scratch", 0)], [variant("scratch", seeds=1)]
    result = result_of(runs=runs, variants=variants, target=False)
    head, rule, row, *_ = render_sweep_markdown(result).splitlines()
    assert {line.count("|") for line in (head, rule, row)} == {head.count("|")}
    assert set(rule) == {"|", "-"}
    assert row.startswith("| scratch |")


def test_a_sweep_with_nothing_finished_has_pages() -> None:
    result = result_of(runs=[run("mae", 0, status="not run")], variants=[], target=False)
    assert "No run has finished yet" in render_sweep(result)
    assert "| pretraining |" in render_sweep_markdown(result)
