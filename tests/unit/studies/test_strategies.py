"""The study of strategies: equal budgets, studies that fedvol accepts, and honest tables."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedvol.config.loading import parse_study
from studies.strategies.__main__ import SEEDS, main
from studies.strategies.budget import FULL, QUICK
from studies.strategies.contenders import CONTENDERS
from studies.strategies.kept import keep, restore
from studies.strategies.page import fill
from studies.strategies.pilot import PILOT_SEED, pilot_runs, settle
from studies.strategies.running import Run, all_runs, prepare
from studies.strategies.scores import Spread
from studies.strategies.settings import SETTINGS
from studies.strategies.study_file import study_text
from studies.strategies.tables import design, figures, pilot_table

PAGE = Path(__file__).parents[3] / "docs" / "results" / "strategies.md"
BY_NAME = {contender.name: contender for contender in CONTENDERS}
(LABEL,) = (setting for setting in SETTINGS if setting.name == "label")


# As they are after a pilot; and once more with the values that it did not choose.
SETTLED = [
    replace(contender, name=f"{contender.name}{number or ''}", strategy=lines, candidates=())
    for contender in CONTENDERS
    for number, (_, lines) in enumerate(contender.candidates or [("", contender.strategy)])
]


@pytest.mark.parametrize("contender", SETTLED, ids=lambda one: one.name)
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: one.name)
def test_every_study_is_accepted_and_takes_the_same_steps(setting, contender) -> None:
    for budget in (FULL, QUICK):
        text = study_text(setting, contender, seed=4, budget=budget)
        study = parse_study(text, where=contender.name)
        steps = sum(stage.rounds * stage.steps_per_round for stage in study.stages)
        assert steps == budget.steps + contender.starts_anew
        assert study.seed == 4
        assert all(stage.training.num_threads == 1 for stage in study.stages)
        assert set(study.data.labels) == set(setting.classes)


def test_what_is_not_compared_is_alike() -> None:
    """Only name, stages and what they are made of differ between two rows."""
    studies = [
        parse_study(study_text(LABEL, contender, seed=0, budget=FULL), where="x")
        for contender in SETTLED
    ]
    alike = {
        study.model_copy(update={"name": "x", "stages": ()}).model_dump_json() for study in studies
    }
    assert len(alike) == 1
    assert len({study.model_dump_json(include={"stages"}) for study in studies}) == len(studies)


def test_another_seed_tests_on_other_cases() -> None:
    (hippocampus,) = (setting for setting in SETTINGS if setting.name == "hippocampus")
    splits = [
        parse_study(
            study_text(hippocampus, CONTENDERS[0], seed=seed, budget=FULL), where="x"
        ).data.split
        for seed in range(6)
    ]
    assert [split.test for split in splits] == [0, 1, 2, 3, 4, 0]
    assert all(split.test != split.validation for split in splits)


def test_runs_come_seed_by_seed_and_none_twice(tmp_path: Path) -> None:
    runs = all_runs(tmp_path, settings=SETTINGS, contenders=CONTENDERS, seeds=(5, 6))
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert len({run.out for run in runs}) == len(runs)
    where = {run.setting.name for run in runs if run.contender.name == "fedavg_equal"}
    assert where == {"size"}
    assert len(runs) == 2 * (len(SETTINGS) * (len(CONTENDERS) - 1) + 1)


# --- tables -----------------------------------------------------------------------------------


def stat(value: float | None) -> dict[str, Any]:
    return {"value": value}


def leave(
    run: Run,
    sites: dict[str, float | None],
    *,
    lesion: float,
    steps: int = 1600,
    validation: float = 0.0,
) -> None:
    """A result as `fedvol simulate` leaves it, with what the tables read."""
    judged = {
        "by_site": {site: {"dice": stat(value)} for site, value in sites.items()},
        "by_class": {"lesion": {"dice": stat(lesion)}, "kidney": {"dice": stat(None)}},
    }
    pooled = {
        "by_site": {site: {"dice": stat(0.75)} for site in sites},
        "by_class": {"lesion": {"dice": stat(0.125)}},
    }
    evaluation = {run.contender.model: judged, "pooled": pooled}
    rounds = [{"index": n, "validation": {"dice": stat(validation * (n == 2))}} for n in (1, 2)]
    result = {
        "status": "finished",
        "versions": {"fedvol": "0", "torch": "0"},
        "evaluation": evaluation,
        "models": {key: {"steps": steps, "seconds": 60.0} for key in evaluation},
        "stages": [
            {"name": "finetune", "best_round": 2, "rounds": rounds},
        ],
    }
    run.out.mkdir(parents=True)
    (run.out / "result.json").write_text(json.dumps(result))


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Run, ...]:
    """Two seeds of FedAvg and one of Ditto; another run has not begun."""
    chosen = [BY_NAME[name] for name in ("fedavg", "scaffold", "ditto")]
    runs = all_runs(tmp_path, settings=[LABEL], contenders=chosen, seeds=(0, 1))
    by_name = {run.name: run for run in runs}
    leave(by_name["label-fedavg-0"], {"a": 0.8, "b": 0.6}, lesion=0.5)
    leave(by_name["label-fedavg-1"], {"a": 0.5, "b": 0.9, "c": None}, lesion=0.25)
    leave(by_name["label-ditto-1"], {"a": 0.4, "b": 0.9}, lesion=1.0, steps=1200)
    return runs


def rows(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return {line[0]: line[1:] for line in cells if line}


def test_scores_are_of_sites_and_differences_of_the_same_seed(finished) -> None:
    text = figures(finished, settings=[LABEL])
    whole, by_class = (rows(part) for part in text.split("| Dice by class"))
    assert whole["FedAvg"] == [
        "0.700 (0.700 to 0.700)", "", "0.550 (0.500 to 0.600)", "", "2", "1,600",
    ]  # fmt: skip
    assert whole["FedAvg, then Ditto, lambda 0.1"] == [
        "0.650", "−0.050", "0.400", "−0.100", "1", "1,200",
    ]  # fmt: skip
    assert whole["all cases in one place"] == [
        "0.750 (0.750 to 0.750)", "+0.050 (+0.050 to +0.050)",
        "0.750 (0.750 to 0.750)", "+0.200 (+0.150 to +0.250)", "2", "1,600",
    ]  # fmt: skip
    assert "SCAFFOLD" not in whole
    liver, kidney, lesion = by_class["FedAvg"]
    assert (liver, kidney, lesion) == ("–", "–", "0.375 (0.250 to 0.500)")


def test_kept_figures_make_the_same_tables_elsewhere(
    finished: tuple[Run, ...], tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    for run in finished:
        run.write_study(budget=FULL)
    keep(finished, path=kept)
    elsewhere = [replace(run, root=tmp_path / "elsewhere") for run in finished]
    for run in elsewhere:
        run.write_study(budget=FULL)
    assert restore(elsewhere, path=kept) == 3
    assert figures(elsewhere, settings=[LABEL]) == figures(finished, settings=[LABEL])
    assert restore(elsewhere, path=kept) == 0  # what is there is not replaced
    keep(elsewhere[:1], path=kept)
    assert len(json.loads(kept.read_text())) == 3  # others stay


def test_kept_figures_of_another_design_are_not_taken(
    finished: tuple[Run, ...], tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    for run in finished:
        run.write_study(budget=FULL)
    keep(finished, path=kept)
    elsewhere = [replace(run, root=tmp_path / "elsewhere") for run in finished]
    for run in elsewhere:
        run.write_study(budget=QUICK)
    assert restore(elsewhere, path=kept) == 0
    assert restore(elsewhere, path=tmp_path / "absent.json") == 0


def test_a_setting_without_figures_says_so(finished) -> None:
    assert figures(finished, settings=SETTINGS[:1]).endswith("Not run yet.")


# --- the pilot ---------------------------------------------------------------------------------


def play_pilot(root: Path, best: dict[str, float]) -> tuple[Run, ...]:
    """A finished pilot: validation Dice by candidate, test Dice the other way round."""
    runs = pilot_runs(root, contenders=CONTENDERS)
    for run in runs:
        value = best[run.contender.name]
        leave(run, {"a": 1 - value}, lesion=0.5, validation=value)
    return runs


BEST = {
    "fedavgm-candidate1": 0.75,
    "fedavgm-candidate2": 0.5,
    "fedadam-candidate1": 0.25,
    "fedadam-candidate2": 0.5,
}


def test_the_pilot_chooses_by_validation(tmp_path: Path) -> None:
    runs = play_pilot(tmp_path, BEST)
    assert {run.seed for run in runs} == {PILOT_SEED}
    assert PILOT_SEED not in SEEDS
    settled = {c.name: settle(c, pilot=runs).strategy.splitlines() for c in CONTENDERS}
    assert settled["fedavgm"][1:] == ["momentum = 0.5", "server_learning_rate = 1.0"]
    for kind in ("fedadam", "fedyogi"):
        assert settled[kind] == [f'kind = "{kind}"', "server_learning_rate = 0.03"]
    assert settled["scaffold"] == ['kind = "scaffold"']
    table = rows(pilot_table(runs))
    assert table["FedAdam, server rate 0.03"] == ["0.500", "0.500", "0.500"]


def test_without_a_pilot_nothing_is_settled(tmp_path: Path) -> None:
    fedyogi = BY_NAME["fedyogi"]
    runs = pilot_runs(tmp_path, contenders=[fedyogi])
    assert {run.contender.name for run in runs} == {"fedadam-candidate1", "fedadam-candidate2"}
    with pytest.raises(ValueError, match="not finished"):
        settle(fedyogi, pilot=runs)
    with pytest.raises(ValueError, match="choose its settings first"):
        study_text(LABEL, fedyogi, seed=0, budget=FULL)
    assert pilot_runs(tmp_path, contenders=[BY_NAME["scaffold"]]) == ()


def test_spread_keeps_the_sign() -> None:
    gain = Spread.of([0.5, 0.25]).minus(Spread.of([0.25, 0.5]))
    assert gain.signed() == "+0.000 (−0.250 to +0.250)"


# --- files ------------------------------------------------------------------------------------


def test_another_design_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    runs = all_runs(tmp_path, settings=SETTINGS[:1], contenders=CONTENDERS[:1], seeds=(0,))
    prepare(runs, budget=FULL)
    prepare(runs, budget=FULL)
    with pytest.raises(FileExistsError, match="another design"):
        prepare(runs, budget=QUICK)


def test_only_the_marked_parts_of_a_page_change(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- figures -->\nold\n<!-- end of figures -->\nb\n")
    fill(page, figures=r"new \1")
    assert page.read_text() == "a\n<!-- figures -->\nnew \\1\n<!-- end of figures -->\nb\n"
    with pytest.raises(ValueError, match="no marks <!-- design -->"):
        fill(page, design="")


def test_the_page_tells_the_design_that_runs(tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.read_text())
    fill(copy, design=design(budget=FULL, seeds=SEEDS))
    assert copy.read_text() == PAGE.read_text(), (
        "run: python -m studies.strategies --out OUT --tables --page docs/results/strategies.md"
    )


def test_tables_are_of_the_design_that_made_the_figures(tmp_path: Path, capsys) -> None:
    runs = all_runs(tmp_path, settings=[LABEL], contenders=[BY_NAME["fedavg"]], seeds=(4,))
    leave(runs[0], {"a": 0.5}, lesion=0.5)
    page = tmp_path / "page.md"
    empty = "".join(
        f"<!-- {name} -->\n<!-- end of {name} -->\n" for name in ("design", "pilot", "figures")
    )
    page.write_text(empty)
    words = ["--setting", "label", "--only", "fedavg", "--seed", "4", "--tables"]
    words += ["--out", str(tmp_path), "--page", str(page)]

    with pytest.raises(SystemExit):  # nothing says what made it
        main(words)
    runs[0].write_study(budget=QUICK)
    with pytest.raises(SystemExit):
        main(words)
    assert "another design made label-fedavg-4" in capsys.readouterr().err
    assert page.read_text() == empty

    assert main([*words, "--quick"]) == 0
    assert "Seeds 4: " in page.read_text()
    assert "3 rounds of 2 steps" in page.read_text()
    assert "no figure means anything" in page.read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "nothing"], "invalid choice"),
        (["--only", "fedavg"], "--hippocampus"),
        (["--quick", "--keep", "kept.json"], "none to keep"),
    ],
)
def test_a_slip_is_told(words, told: str, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), *words])
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
