from pathlib import Path

import pytest
from pretraining import started_text
from tiny import tiny_text

from fedvol.config.loading import parse_open_study
from fedvol.config.sweep import parse_sweep
from fedvol.errors import StudyError, SweepError
from fedvol.files import write_atomic
from fedvol.simulation.sweep.design import SweepRun, steps, sweep_runs
from fedvol.simulation.sweep.folder import SweepFolder
from fedvol.simulation.sweep.sharing import share_pretraining

FOLDER = SweepFolder(folder=Path("out"))
HEAD = "version = 1\nseeds = [4, 5]\n"
PRETRAIN = """
[axes.pretraining.mae.stages.pretrain]
task = { kind = "mae", block = 4 }
strategy = { kind = "fedavg" }
rounds = 2
steps_per_round = 3
training = { optimiser = { kind = "adamw", learning_rate = 5e-3 }, num_threads = 1 }
[axes.pretraining.scratch]
"""
LABELS = """
[axes.labels.few]
data.few_labels = { subjects = 1 }
[axes.labels.all]
"""


def runs_of(axes: str, *, head: str = HEAD) -> tuple[SweepRun, ...]:
    """The runs of a sweep of the tiny study."""
    return sweep_runs(parse_sweep(head + axes, where="s"), tiny_text(), where=Path("tiny.toml"))


def test_each_variant_with_each_seed_is_a_study_of_its_own() -> None:
    runs = runs_of(LABELS + PRETRAIN)
    assert [run.name for run in runs] == [
        f"{labels}/{pretraining}/seed-{seed}"
        for seed in (4, 5)
        for labels in ("few", "all")
        for pretraining in ("mae", "scratch")
    ]
    for run in runs:
        assert parse_open_study(run.text, where=run.name) == run.study
        assert run.study.seed == run.seed
        few = run.study.data.few_labels
        assert (few.seed if few else None) == (run.seed if "few" in run.name else None)
        assert (run.study.pretrain is not None) == ("mae" in run.name)


def test_the_seed_of_scratch_is_the_study_as_written_with_that_seed() -> None:
    plain = parse_open_study(tiny_text(), where="tiny.toml").model_copy(update={"seed": 5})
    assert next(r for r in runs_of(PRETRAIN) if r.name == "scratch/seed-5").study == plain


def test_steps_of_pretraining_are_apart() -> None:
    mae, scratch = runs_of(PRETRAIN)[:2]
    assert [steps(run.study, pretraining=True) for run in (mae, scratch)] == [6, 0]
    assert [steps(run.study, pretraining=False) for run in (mae, scratch)] == [9, 9]


def test_a_file_of_weights_is_found_from_the_varied_studys_folder_on() -> None:
    sweep = parse_sweep(HEAD + LABELS, where="s")
    text = started_text("weights/w.safetensors")
    for run in sweep_runs(sweep, text, where=Path("/studies/tiny.toml")):
        assert run.study.weights is not None
        assert run.study.weights.file == "/studies/weights/w.safetensors"


def test_variants_with_other_budgets_cannot_be_compared() -> None:
    axes = "[axes.rounds.three]\n[axes.rounds.two]\nstages.finetune.rounds = 2\n"
    with pytest.raises(SweepError, match="three has 9, two has 6"):
        runs_of(axes)
    with pytest.raises(SweepError, match="mae has 15, scratch has 9"):
        runs_of(PRETRAIN, head=f'{HEAD}equal = "all"\n')


def test_a_metric_that_is_not_reported_and_other_test_cases_are_told() -> None:
    with pytest.raises(SweepError, match="does not report assd_mm"):
        runs_of(LABELS, head=f'{HEAD}metric = "assd_mm"\n')
    axes = "[axes.fold.zero]\n[axes.fold.one]\ndata.split = { test = 1, validation = 0 }\n"
    with pytest.raises(SweepError, match="not judged on the same test cases"):
        runs_of(axes)


def test_a_variant_that_is_no_study_is_named() -> None:
    axes = "[axes.patch.whole]\n[axes.patch.odd]\npatches.size = [15, 16, 16]\n"
    with pytest.raises(StudyError, match=r"tiny\.toml, variant odd"):
        runs_of(axes)
    axes = "[axes.patch.whole]\n[axes.patch.odd]\npatchs.size = [16, 16, 16]\n"
    with pytest.raises(StudyError, match="Did you mean patches"):
        runs_of(axes)


def test_variants_that_pretrain_alike_do_so_once() -> None:
    runs = share_pretraining(runs_of(PRETRAIN + LABELS), folder=FOLDER, where=Path("tiny.toml"))
    told = {run.name: (run.pretrained_by, run.pretrain_steps) for run in runs}
    assert told == {
        "mae/few/seed-4": ("", 6),
        "mae/all/seed-4": ("mae/few/seed-4", 6),
        "scratch/few/seed-4": ("", 0),
        "scratch/all/seed-4": ("", 0),
        "mae/few/seed-5": ("", 6),
        "mae/all/seed-5": ("mae/few/seed-5", 6),
        "scratch/few/seed-5": ("", 0),
        "scratch/all/seed-5": ("", 0),
    }
    follower = next(run for run in runs if run.name == "mae/all/seed-4")
    assert follower.study.pretrain is None
    assert follower.study.weights is not None
    file = follower.study.weights.file
    assert file == "../../../runs/mae/few/seed-4/checkpoints/pretrained.safetensors"
    assert parse_open_study(follower.text, where="follower") == follower.study


def test_whoever_pretrained_goes_on_to_when_a_sweep_grows(tmp_path: Path) -> None:
    """A value before those that ran would else make the run that pretrained a follower."""
    folder = SweepFolder(folder=tmp_path)
    begun = next(run for run in runs_of(PRETRAIN + LABELS) if run.name == "mae/all/seed-4")
    write_atomic(folder.run(begun).study, begun.text.encode())
    runs = share_pretraining(runs_of(PRETRAIN + LABELS), folder=folder, where=Path("tiny.toml"))
    told = {run.name: run.pretrained_by for run in runs if run.name.startswith("mae/")}
    assert told == {
        "mae/few/seed-4": "mae/all/seed-4",
        "mae/all/seed-4": "",
        "mae/few/seed-5": "",
        "mae/all/seed-5": "mae/few/seed-5",
    }
    for run in runs:
        folder.require_same(run)


def test_studies_that_are_planned_with_other_labels_do_not_pretrain_alike() -> None:
    """Spacing, patches and network of an open study follow from the labelled cases."""
    text, where = tiny_text().replace("spacing_mm =", "# spacing_mm ="), Path("tiny.toml")
    runs = sweep_runs(parse_sweep(HEAD + PRETRAIN + LABELS, where="s"), text, where=where)
    shared = share_pretraining(runs, folder=FOLDER, where=where)
    assert any(run.study.open_keys for run in runs)
    assert {run.pretrained_by for run in shared} == {""}


def test_what_stays_at_sites_is_not_shared() -> None:
    axes = PRETRAIN.replace("rounds = 2", 'rounds = 2\nexchange = "encoder"') + LABELS
    runs = share_pretraining(runs_of(axes), folder=FOLDER, where=Path("tiny.toml"))
    assert {run.pretrained_by for run in runs} == {""}


def test_other_pretraining_is_not_shared() -> None:
    longer = PRETRAIN.replace("mae.stages", "long.stages").replace("rounds = 2", "rounds = 3")
    axes = PRETRAIN + longer.split("[axes.pretraining.scratch]")[0]
    runs = share_pretraining(runs_of(axes), folder=FOLDER, where=Path("tiny.toml"))
    assert {run.pretrained_by for run in runs} == {""}
    assert {run.pretrain_steps for run in runs} == {0, 6, 9}


def test_a_task_that_trains_the_encoder_gives_the_encoder() -> None:
    task = 'kind = "rotation", axis = 0'
    axes = PRETRAIN.replace('kind = "mae", block = 4', task) + LABELS
    runs = share_pretraining(runs_of(axes), folder=FOLDER, where=Path("tiny.toml"))
    starts = [run.study.finetune.start for run in runs if run.pretrained_by]
    assert [start.parts for start in starts if start] == ["encoder"] * 2
