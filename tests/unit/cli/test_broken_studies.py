"""Every broken study is refused with status 2 and its own message."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from fedvol.cli.main import main

GOOD = """
version = 1
name = "good"
purpose = "A study for tests only."
seed = 0

[data]
channels = ["T1", "T2"]
labels = { liver = 1, kidney = 2 }
split = { kind = "fold", test = 0, validation = 1 }

[preprocessing]
spacing_mm = [1.0, 1.0, 1.0]
normalisation = { kind = "z_score" }

[patches]
size = [16, 16, 16]
batch_size = 2

[augmentation]
scale = [0.8, 1.25]

[network]
kind = "unet"
features = [8, 16, 32]

[task]
kind = "segmentation"

[[stages]]
kind = "finetune"
rounds = 2
steps_per_round = 3
strategy = { kind = "fedavg" }

[stages.training]
optimiser = { kind = "adamw" }

[federation]
min_sites = 2

[evaluation]
metrics = ["dice", "nsd"]
select_by = "dice"
nsd_tolerance_mm = 1.0
mirror_axes = [1]
"""


class Broken(NamedTuple):
    name: str
    old: str
    new: str
    where: str
    reason: str


def _network(lines: str) -> tuple[str, str]:
    return "features = [8, 16, 32]", f"features = [8, 16, 32]\n{lines}"


_PERSONAL = """
[[stages]]
kind = "personalise"
method = {method}
rounds = 2
steps_per_round = 3
training = {{ optimiser = {{ kind = "sgd", learning_rate = 0.1 }} }}

[federation]"""


def _personal(method: str) -> tuple[str, str]:
    return "[federation]", _PERSONAL.format(method=method)


BROKEN = [
    # personalise
    Broken(
        "personal_first",
        'kind = "finetune"\nrounds = 2\nsteps_per_round = 3\nstrategy = { kind = "fedavg" }',
        'kind = "personalise"\nrounds = 2\nsteps_per_round = 3\nmethod = { kind = "ditto" }',
        "stages",
        "the stages are personalise",
    ),
    Broken(
        "finetune_twice",
        "[federation]",
        '[[stages]]\nkind = "finetune"\nrounds = 2\nsteps_per_round = 3\n'
        'strategy = { kind = "fedavg" }\ntraining = { optimiser = { kind = "sgd" } }\n'
        "[federation]",
        "stages",
        "the stages are finetune, finetune",
    ),
    Broken(
        "ditto_that_overshoots",
        *_personal('{ kind = "ditto", pull = 20.0 }'),
        "stages[1].method.pull",
        "20 times the learning rate 0.1 is above 1",
    ),
    Broken(
        "unknown_parts",
        *_personal('{ kind = "finetune", parts = "encoder" }'),
        "stages[1].method.parts",
        "is not a choice here",
    ),
    Broken(
        "ditto_with_parts",
        *_personal('{ kind = "ditto", parts = "head" }'),
        "stages[1].method.parts",
        "unknown key",
    ),
    # strategies
    Broken(
        "adaptive_mu_without_rounds",
        'strategy = { kind = "fedavg" }',
        'strategy = { kind = "adaptive_fedprox" }',
        "stages[0].strategy.kind",
        "cannot change before round 3",
    ),
    Broken(
        "pull_that_overshoots",
        'strategy = { kind = "fedavg" }\n\n[stages.training]\noptimiser = { kind = "adamw" }',
        'strategy = { kind = "fedprox", mu = 20.0 }\n\n[stages.training]\n'
        'optimiser = { kind = "sgd", learning_rate = 0.1 }',
        "stages[0].strategy.mu",
        "20 times the learning rate 0.1 is above 1",
    ),
    Broken(
        "momentum_of_one",
        'kind = "fedavg"',
        'kind = "fedavgm", momentum = 1.0',
        "stages[0].strategy.momentum",
        "1.0 is not below 1",
    ),
    Broken(
        "key_of_another_strategy",
        'kind = "fedavg"',
        'kind = "fedadam", momentum = 0.9',
        "stages[0].strategy.momentum",
        "unknown key",
    ),
    # keys
    Broken("missing_key", 'name = "good"\n', "", "name", "this key is missing"),
    Broken("missing_table", '[task]\nkind = "segmentation"\n', "", "task", "missing"),
    Broken("missing_nested", "rounds = 2\n", "", "stages[0].rounds", "this key is missing"),
    Broken(
        "missing_in_choice",
        '"fold", test = 0, validation = 1',
        '"fold", test = 0',
        "data.split.validation",
        "this key is missing",
    ),
    Broken("unknown_top", "seed = 0", "sede = 0", "sede", "Did you mean seed?"),
    Broken("unknown_nested", "batch_size = 2", "batchsize = 2", "patches.batchsize", "batch_size?"),
    Broken(
        "unknown_in_choice",
        '{ kind = "fedavg" }',
        '{ kind = "fedavg", mu = 0.1 }',
        "stages[0].strategy.mu",
        "Known here: weighting, kind.",
    ),
    Broken("quoted_key", "seed = 0", '"my seed" = 0', '"my seed"', "unknown key"),
    # types
    Broken("text_for_number", "seed = 0", 'seed = "0"', "seed", 'found "0"'),
    Broken("fraction_for_whole", "rounds = 2", "rounds = 2.5", "stages[0].rounds", "found 2.5"),
    Broken("bool_for_whole", "kidney = 2", "kidney = true", "data.labels.kidney", "found true"),
    Broken("number_for_text", 'name = "good"', "name = 7", "name", "expected text in quotes"),
    Broken("text_for_list", '["T1", "T2"]', '"T1"', "data.channels", 'expected a list, found "T1"'),
    Broken(
        "text_for_choice",
        'normalisation = { kind = "z_score" }',
        'normalisation = "z_score"',
        "preprocessing.normalisation",
        "expected a table",
    ),
    Broken(
        "date", 'purpose = "A study for tests only."', "purpose = 2024-05-01", "purpose", "date"
    ),
    Broken(
        "tolerance_text",
        "nsd_tolerance_mm = 1.0",
        'nsd_tolerance_mm = "1 mm"',
        "evaluation.nsd_tolerance_mm",
        "expected a number or a table",
    ),
    Broken("not_finite", "min_sites = 2", "train_limit_s = inf", "train_limit_s", "found inf"),
    # choices
    Broken("version", "version = 1", "version = 2", "version", "Write 1."),
    Broken(
        "unknown_kind",
        '"unet"',
        '"unett"',
        "network.kind",
        "swin_unetr, densenet3d, resnet3d. Did you mean unet?",
    ),
    Broken(
        "missing_kind",
        '{ kind = "adamw" }',
        "{}",
        "stages[0].training.optimiser.kind",
        "sgd, adamw",
    ),
    Broken("kind_number", '{ kind = "adamw" }', "{ kind = 3 }", "optimiser.kind", "unknown kind 3"),
    Broken(
        "unknown_metric", '"dice", "nsd"', '"dice", "nds"', "evaluation.metrics[1]", "mean nsd?"
    ),
    Broken("unknown_norm", *_network('norm = "layer"'), "network.norm", "group"),
    # ranges and lengths
    Broken("negative_seed", "seed = 0", "seed = -1", "seed", "-1 is below 0"),
    Broken("huge_seed", "seed = 0", "seed = 9223372036854775808", "seed", "not below"),
    Broken("zero_rounds", "rounds = 2", "rounds = 0", "stages[0].rounds", "Use a value at least 1"),
    Broken("zero_spacing", "[1.0, 1.0, 1.0]", "[1.0, 0.0, 1.0]", "spacing_mm[1]", "not above 0"),
    Broken("two_spacings", "[1.0, 1.0, 1.0]", "[1.0, 1.0]", "spacing_mm", "3 values, found 2"),
    Broken("four_sides", "[16, 16, 16]", "[16, 16, 16, 1]", "patches.size", "at most 3 values"),
    Broken("small_patch", "[16, 16, 16]", "[16, 4, 16]", "patches.size[1]", "4 is below 8"),
    Broken("label_zero", "liver = 1", "liver = 0", "data.labels.liver", "0 is below 1"),
    Broken("no_labels", "{ liver = 1, kidney = 2 }", "{}", "data.labels", "at least 1 value"),
    Broken("no_channels", '["T1", "T2"]', "[]", "data.channels", "at least 1 value, found 0"),
    Broken("short_purpose", '"A study for tests only."', '"Tests"', "purpose", "shorter than 10"),
    Broken("bad_name", '"good"', '"../good"', "name", "no name we accept"),
    Broken("bad_class", "liver = 1", '"le foie" = 1', 'data.labels."le foie"', "no name we accept"),
    Broken(
        "mu", '{ kind = "fedavg" }', '{ kind = "fedprox", mu = -1 }', "stages[0].strategy.mu", "-1"
    ),
    Broken(
        "tolerance_range",
        "nsd_tolerance_mm = 1.0",
        "nsd_tolerance_mm = { liver = 0, kidney = 1 }",
        "evaluation.nsd_tolerance_mm.liver",
        "0 is not above 0",
    ),
    # contradictions
    Broken("channel_twice", '["T1", "T2"]', '["T1", "T1"]', "data.channels", "T1 is listed twice"),
    Broken("label_value_twice", "kidney = 2", "kidney = 1", "data.labels", "share the value 1"),
    Broken("reserved_class", "liver = 1", "overall = 1", "data.labels.overall", "results"),
    Broken("background_class", "liver = 1", "Background = 1", "data.labels.Background", "is 0"),
    Broken("same_fold", "validation = 1", "validation = 0", "data.split.validation", "test fold"),
    Broken(
        "hash_shares",
        'kind = "fold", test = 0, validation = 1',
        'kind = "hash", test_share = 0.6, validation_share = 0.4',
        "data.split",
        "leave no subject to train on",
    ),
    Broken(
        "window",
        'kind = "z_score"',
        'kind = "window", window_hu = [300.0, -200.0]',
        "preprocessing.normalisation.window_hu",
        "300 is not below the upper bound -200",
    ),
    Broken("range_order", "[0.8, 1.25]", "[1.25, 0.8]", "augmentation.scale", "down to 0.8"),
    Broken("range_zero", "[0.8, 1.25]", "[0.0, 1.0]", "augmentation.scale", "0 is not above 0"),
    Broken(
        "blur", "scale = [0.8, 1.25]", "blur_sigma = [-1.0, 1.0]", "augmentation.blur_sigma", "-1"
    ),
    Broken(
        "gamma", "scale = [0.8, 1.25]", "gamma = [0.0, 1.5]", "augmentation.gamma", "not above 0"
    ),
    Broken(
        "low_resolution",
        "scale = [0.8, 1.25]",
        "low_resolution = [0.5, 2.0]",
        "augmentation.low_resolution",
        "would add voxels",
    ),
    Broken(
        "mirror_twice",
        "scale = [0.8, 1.25]",
        "mirror_axes = [1, 1]",
        "augmentation.mirror_axes",
        "1 is listed twice",
    ),
    Broken(
        "strides_length",
        *_network("strides = [[1, 1, 1], [2, 2, 2]]"),
        "network.strides",
        "2 entries for 3 stages",
    ),
    Broken(
        "kernels_length",
        *_network("kernels = [[3, 3, 3], [3, 3, 3]]"),
        "network.kernels",
        "2 entries for 3",
    ),
    Broken(
        "blocks_length",
        'kind = "unet"',
        'kind = "resenc_unet"\nblocks_per_stage = [1, 2]',
        "network.blocks_per_stage",
        "2 entries for 3 stages",
    ),
    Broken(
        "first_stride",
        *_network("strides = [[2, 2, 2], [2, 2, 2], [2, 2, 2]]"),
        "network.strides[0]",
        "full resolution",
    ),
    Broken(
        "even_kernel",
        *_network("kernels = [[3, 3, 3], [3, 2, 3], [3, 3, 3]]"),
        "network.kernels[1]",
        "even side",
    ),
    Broken("patch_divides", "[16, 16, 16]", "[16, 18, 16]", "patches.size[1]", "Use 16 or 20"),
    Broken(
        "one_voxel",
        *_network("strides = [[1, 1, 1], [4, 4, 4], [4, 4, 4]]"),
        "patches.size",
        "a single voxel",
    ),
    Broken(
        "batch_norm_of_one",
        "batch_size = 2\n\n[augmentation]\nscale = [0.8, 1.25]\n\n[network]\n",
        'batch_size = 1\n\n[network]\nnorm = "batch"\n',
        "network.norm",
        "batches of one patch",
    ),
    Broken(
        "no_loss",
        'kind = "segmentation"',
        'kind = "segmentation"\n[task.loss]\nkind = "dice_ce"\n'
        "dice_weight = 0\ncross_entropy_weight = 0",
        "task.loss",
        "dice_weight and cross_entropy_weight are both 0, so nothing is learned",
    ),
    Broken(
        "no_focal_loss",
        'kind = "segmentation"',
        'kind = "segmentation"\nloss = { kind = "dice_focal", dice_weight = 0, focal_weight = 0 }',
        "task.loss",
        "dice_weight and focal_weight are both 0",
    ),
    Broken(
        "no_errors",
        'kind = "segmentation"',
        'kind = "segmentation"\nloss = { kind = "tversky", alpha = 0, beta = 0 }',
        "task.loss",
        "alpha and beta are both 0",
    ),
    Broken(
        "gamma_below_one",
        'kind = "segmentation"',
        'kind = "segmentation"\nloss = { kind = "dice_focal", gamma = 0.5 }',
        "task.loss.gamma",
        "0.5 is below 1",
    ),
    Broken(
        "unknown_loss",
        'kind = "segmentation"',
        'kind = "segmentation"\nloss = { kind = "dice" }',
        "task.loss.kind",
        "dice_ce, dice_focal, tversky, generalised_dice",
    ),
    Broken("select_by", 'select_by = "dice"', 'select_by = "dise"', "select_by", "mean dice?"),
    Broken(
        "select_by_unreported",
        'select_by = "dice"',
        'select_by = "hd95_mm"',
        "evaluation.select_by",
        "no metric of evaluation.metrics",
    ),
    Broken(
        "select_by_class",
        'select_by = "dice"',
        'select_by = "dice/livre"',
        "evaluation.select_by",
        "Did you mean dice/liver?",
    ),
    Broken("metric_twice", '"dice", "nsd"', '"dice", "dice", "nsd"', "evaluation.metrics", "twice"),
    Broken(
        "tolerance_class",
        "nsd_tolerance_mm = 1.0",
        "nsd_tolerance_mm = { liver = 1, kidny = 1, kidney = 2 }",
        "evaluation.nsd_tolerance_mm.kidny",
        "Did you mean kidney?",
    ),
    Broken(
        "tolerance_missing",
        "nsd_tolerance_mm = 1.0",
        "nsd_tolerance_mm = { liver = 1 }",
        "evaluation.nsd_tolerance_mm.kidney",
        "has no tolerance",
    ),
    Broken(
        "tolerance_without_nsd",
        '["dice", "nsd"]',
        '["dice"]',
        "evaluation.nsd_tolerance_mm",
        "no effect",
    ),
    Broken(
        "mirror_without_axes",
        "mirror_axes = [1]",
        "mirror_axes = []\nvalidation_mirror = true",
        "evaluation.validation_mirror",
        "no effect",
    ),
    Broken(
        "mirror_unseen",
        "scale = [0.8, 1.25]",
        "mirror_axes = [0, 2]",
        "evaluation.mirror_axes",
        "not mirrored in training",
    ),
]


def _broken_text(case: Broken) -> str:
    assert GOOD.count(case.old) == 1, case.old
    return GOOD.replace(case.old, case.new)


def _check(text: str | bytes, folder: Path) -> int:
    file = folder / "study.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return main(["study", "check", str(file)])


def test_the_good_study_is_good(tmp_path: Path) -> None:
    assert _check(GOOD, tmp_path) == 0


@pytest.mark.parametrize("case", BROKEN, ids=[case.name for case in BROKEN])
def test_broken(case: Broken, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _check(_broken_text(case), tmp_path) == 2
    told = capsys.readouterr().err
    assert told.startswith("FV-CONF-002")
    (line,) = (line for line in told.splitlines()[1:] if f"{case.where}:" in line)
    assert case.reason in line
    assert "union" not in told
    assert "pydantic" not in told
    assert "Input should" not in told
    assert "unet.norm" not in told


def test_each_has_its_own_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    messages: set[str] = set()
    for case in BROKEN:
        _check(_broken_text(case), tmp_path)
        messages.add(capsys.readouterr().err)
    assert len(messages) == len(BROKEN) >= 30


def test_every_problem_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Schema errors, an unknown key and a contradiction elsewhere come together."""
    text = (
        GOOD.replace("seed = 0", 'seed = "x"\nextra = 1')
        .replace("rounds = 2", "rounds = 0")
        .replace("kidney = 2", "kidney = 1")
        .replace("[16, 16, 16]", "[16, 18, 16]")
    )
    assert _check(text, tmp_path) == 2
    told = capsys.readouterr().err
    assert "5 problems" in told
    for where in ("seed:", "extra:", "stages[0].rounds:", "data.labels:", "patches.size[1]:"):
        assert f"  {where}" in told


def test_a_broken_key_does_not_hide_its_section(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing error in [data] and in a stage, and a contradiction beside each."""
    text = (
        GOOD.replace("[data]", "[data]\nmax_voxel = 3")
        .replace("kidney = 2", "kidney = 1")
        .replace('["dice", "nsd"]', '["dice"]')
        .replace("[evaluation]", "[evaluation]\noverlap = 2.0")
    )
    assert _check(text, tmp_path) == 2
    told = capsys.readouterr().err
    for where in (
        "data.max_voxel:",
        "data.labels:",
        "evaluation.overlap:",
        "evaluation.nsd_tolerance_mm:",
    ):
        assert f"  {where}" in told
    assert "4 problems" in told


FILES = [
    ("syntax", 'version = 1\nname = "x', "FV-CONF-001", "line 2, column"),
    ("key_twice", GOOD + "\n[data]\n", "FV-CONF-001", "given twice"),
    ("value_twice", "a = 1\na = 2\n", "FV-CONF-001", "line 2, column 6: a key or table"),
    ("latin_1", 'version = 1\nname = "é"'.encode("latin-1"), "FV-CONF-001", "line 2, column 9"),
    ("too_large", "#" * 1_000_001, "FV-CONF-001", "larger than 1 MB"),
    ("deep", "a = " + "[" * 5000, "FV-CONF-001", "nested too deep"),
    ("long_number", "a = " + "9" * 5000, "FV-CONF-001", "too long"),
    ("empty", "", "FV-CONF-002", "version: this key is missing"),
    ("zero_bytes", b"\x00\x00", "FV-CONF-001", "line 1, column 1"),
]


@pytest.mark.parametrize(
    ("text", "code", "reason"), [f[1:] for f in FILES], ids=[f[0] for f in FILES]
)
def test_broken_file(
    text: str | bytes, code: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _check(text, tmp_path) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"{code} {tmp_path / 'study.toml'}")
    assert reason in told


def test_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "check", str(tmp_path / "no.toml")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "check", str(tmp_path)]) == 2
    assert "this is a folder" in capsys.readouterr().err


def test_byte_order_mark_is_fine(tmp_path: Path) -> None:
    assert _check(b"\xef\xbb\xbf" + GOOD.encode(), tmp_path) == 0


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.toml"
    file.write_text(GOOD.replace("kidney = 2", "kidney = 1"))
    assert main(["study", "check", str(file), "--json"]) == 2
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert said["code"] == "FV-CONF-002"
    assert said["exit_status"] == 2
    assert said["problems"] == [
        {
            "where": "data.labels",
            "what": "liver and kidney share the value 1",
            "fix": "Give each class a value of its own.",
        }
    ]
