"""`fedvol data add|list|check|show` at a hospital."""

import json
import shutil
from pathlib import Path
from urllib.parse import unquote

import nibabel as nib
import numpy as np
import pytest
from conftest import Command
from hospital import Server, joined, plain_plan
from pretraining import pretrained_text
from tiny import tiny_study, tiny_text, without_training_labels

from fedvol.site import SiteFolder
from fedvol.site.preparing import cases_folder, prepare_cases


@pytest.fixture
def held(tmp_path: Path) -> SiteFolder:
    return joined(tmp_path / "site", Server(folder=tmp_path / "server"))


@pytest.fixture
def volumes(tmp_path: Path, tiny_data: Path) -> Path:
    """A hospital's folder that a test may change."""
    home = min(path for path in tiny_data.iterdir() if path.is_dir())
    return Path(shutil.copytree(home, tmp_path / "volumes"))


def _add(fedvol: Command, held: SiteFolder, volumes: Path, *more: str) -> int:
    words = ("data", "add", volumes, "--name", "ct", "--channels", "CT", *more)
    return fedvol(*words, "--folder", held.folder).status


def test_add_list_and_check(
    held: SiteFolder, volumes: Path, tmp_path: Path, fedvol: Command
) -> None:
    before = held.config_file.read_text()
    assert _add(fedvol, held, volumes, "--labels", "liver=1,kidney=2,lesion=3") == 0
    assert held.config_file.read_text().startswith(before.rstrip("\n"))
    listed = json.loads(fedvol("data", "list", "--folder", held.folder, "--json").out)
    assert listed["sources"] == [
        {
            "name": "ct",
            "folder": str(volumes),
            "channels": ["CT"],
            "labels": {"liver": 1, "kidney": 2, "lesion": 3},
        }
    ]
    study = tmp_path / "tiny.toml"
    study.write_text(tiny_text())
    done = fedvol("data", "check", study, "--folder", held.folder, "--json")
    assert done.status == 3, done.err
    assert "3 patients to train on; the site's floor is 10" in done.err
    said = json.loads(done.out.splitlines()[0])
    assert sum(said["by_split"].values()) == said["cases"] == 6
    assert said["by_code"] == {}
    assert not said["is_enough"]
    assert not (held.folder / "cases").exists()
    held.config_file.write_text(held.config_file.read_text().replace("= 10", "= 1"))
    done = fedvol("data", "check", study, "--folder", held.folder, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["is_enough"]


def test_what_is_left_out_is_counted_and_named(
    held: SiteFolder, volumes: Path, tmp_path: Path, fedvol: Command
) -> None:
    assert _add(fedvol, held, volumes) == 0
    broken = min((volumes / "images").iterdir())
    broken.write_bytes(b"no volume")
    study = tmp_path / "tiny.toml"
    study.write_text(tiny_text())
    held.config_file.write_text(held.config_file.read_text().replace("= 10", "= 1"))
    said = json.loads(fedvol("data", "check", study, "--folder", held.folder, "--json").out)
    assert sum(said["by_code"].values()) == 1
    shown = fedvol("data", "show", study, "--folder", held.folder, "--json")
    (case,) = json.loads(shown.out)["left_out"]
    assert broken.name.startswith(case)


def test_a_hospital_may_pretrain_on_what_has_no_label(
    held: SiteFolder, volumes: Path, tmp_path: Path, fedvol: Command
) -> None:
    assert _add(fedvol, held, volumes) == 0
    without_training_labels(volumes)
    held.config_file.write_text(held.config_file.read_text().replace("= 10", "= 3"))
    study = tmp_path / "study.toml"
    study.write_text(pretrained_text())
    words = ("data", "check", study, "--folder", held.folder, "--json")
    done = fedvol(*words)
    assert done.status == 0, done.err
    said = json.loads(done.out)
    assert (said["training_subjects"], said["pretraining_subjects"]) == (0, 3)
    assert said["is_enough"]
    told = fedvol("site", "doctor", "--folder", held.folder, "--study", study)
    assert "0 patients to train on, 3 to pretrain on" in told.out + told.err
    study.write_text(tiny_text())
    done = fedvol(*words)
    assert (done.status, "no usable labelled training case" in done.err) == (3, True), done.err


def test_unlabelled_patients_below_the_floor_are_not_counted_in(
    held: SiteFolder, volumes: Path, tmp_path: Path, fedvol: Command
) -> None:
    """One of three has a label; the other two are fewer than the floor."""
    assert _add(fedvol, held, volumes) == 0
    without_training_labels(volumes, but=1)
    held.config_file.write_text(held.config_file.read_text().replace("= 10", "= 3"))
    study = tmp_path / "study.toml"
    study.write_text(pretrained_text())
    done = fedvol("data", "check", study, "--folder", held.folder)
    assert done.status == 3
    assert "1 patients to pretrain on; the site's floor is 3" in done.err


def keep_training(volumes: Path, *, num: int) -> None:
    """Leave so many training cases in a hospital's table."""
    header, *rows = (volumes / "cases.csv").read_text().splitlines()
    fold = header.split(",").index("fold")
    training = [row for row in rows if row.split(",")[fold] not in ("0", "1")]
    kept = [header, *(row for row in rows if row not in training[num:])]
    (volumes / "cases.csv").write_text("\n".join(kept) + "\n")


def test_a_single_case_that_a_task_would_blend_with_another_is_told(
    held: SiteFolder, volumes: Path, tmp_path: Path, fedvol: Command
) -> None:
    """It has a label: the site may still finetune on it."""
    assert _add(fedvol, held, volumes) == 0
    keep_training(volumes, num=1)
    held.config_file.write_text(held.config_file.read_text().replace("= 10", "= 1"))
    study = tmp_path / "study.toml"
    study.write_text(pretrained_text())
    done = fedvol("data", "check", study, "--folder", held.folder, "--json")
    assert done.status == 0, done.err
    lacks = "volume_fusion needs two cases to train on, and there is one"
    assert f"the site would sit the pretraining out: {lacks}" in done.err
    said = json.loads(done.out)
    assert (said["pretraining_lacks"], said["is_enough"]) == (lacks, True)


def test_slices_are_no_volumes(
    held: SiteFolder, volumes: Path, tmp_path: Path, fedvol: Command
) -> None:
    """Two images of a single slice, four with two axes."""
    assert _add(fedvol, held, volumes) == 0
    for number, path in enumerate(sorted((volumes / "images").iterdir())):
        image = nib.loadsave.load(path)
        slices = np.asanyarray(image.dataobj)[:, :, 20:21]  # type: ignore[attr-defined]
        array = slices if number < 2 else slices[..., 0]
        nib.loadsave.save(nib.nifti1.Nifti1Image(array, image.affine), path)  # type: ignore[attr-defined]
    held.config_file.write_text(held.config_file.read_text().replace("= 10", "= 1"))
    study = tmp_path / "study.toml"
    study.write_text(pretrained_text())
    done = fedvol("data", "check", study, "--folder", held.folder, "--json")
    assert done.status == 3
    assert json.loads(done.out.splitlines()[0])["by_code"] == {"FV-DATA-006": 6}
    assert "FV-DATA-016" in done.err
    assert "x1 voxels; each axis needs at least 4. Give a 3-D volume. Mend the cases" in done.err


def test_a_name_twice(held: SiteFolder, volumes: Path, fedvol: Command) -> None:
    assert _add(fedvol, held, volumes) == 0
    before = held.config_file.read_text()
    assert _add(fedvol, held, volumes) == 2
    assert held.config_file.read_text() == before


def test_no_volumes(held: SiteFolder, tmp_path: Path, fedvol: Command) -> None:
    before = held.config_file.read_text()
    assert _add(fedvol, held, tmp_path / "nowhere") == 3
    assert held.config_file.read_text() == before


@pytest.mark.parametrize("labels", ["liver", "liver=x", "liver=1,liver=2", "=1"])
def test_labels_that_are_none(
    held: SiteFolder, volumes: Path, fedvol: Command, labels: str
) -> None:
    assert _add(fedvol, held, volumes, "--labels", labels) == 2


def test_a_study_with_other_channels(
    held: SiteFolder, volumes: Path, tmp_path: Path, fedvol: Command
) -> None:
    assert _add(fedvol, held, volumes) == 0
    study = tmp_path / "tiny.toml"
    study.write_text(tiny_text(channels='channels = ["MR"]'))
    done = fedvol("data", "check", study, "--folder", held.folder)
    assert done.status == 3
    assert "FV-DATA-031" in done.err


def test_damaged_copies_are_named_before_anybody_trains(
    held: SiteFolder, volumes: Path, tmp_path: Path, fedvol: Command
) -> None:
    assert _add(fedvol, held, volumes) == 0
    held.config_file.write_text(held.config_file.read_text().replace("= 10", "= 1"))
    plan = plain_plan(tiny_study())
    written = tmp_path / "plan.json"
    written.write_text(plan.model_dump_json())
    words = ("data", "check", written, "--prepared", "--folder", held.folder, "--json")
    done = fedvol(*words)
    assert (done.status, "FV-DATA-030" in done.err) == (3, True), done.err
    (source,) = held.config().data
    prepare_cases(held, source, plan.study, on_case=lambda record, done, total: None)
    done = fedvol(*words)
    assert done.status == 0, done.err
    assert (json.loads(done.out)["prepared"], json.loads(done.out)["damaged"]) == (6, {})
    folder = cases_folder(held, source, plan.study)
    flipped, gone, *_ = sorted((folder / "cases").glob("*.case"))
    content = flipped.read_bytes()
    flipped.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    gone.unlink()
    done = fedvol(*words)
    assert done.status == 3
    said = json.loads(done.out.splitlines()[0])
    assert sorted(said["damaged"]) == [unquote(path.stem) for path in (flipped, gone)]
    assert "FV-DATA-019" in done.err
    assert f"Delete {folder}" in done.err


def test_nothing_is_prepared_for_a_study_file(
    held: SiteFolder, volumes: Path, tmp_path: Path, fedvol: Command
) -> None:
    assert _add(fedvol, held, volumes) == 0
    study = tmp_path / "study.toml"
    study.write_text(tiny_text(normalisation=""))
    done = fedvol("data", "check", study, "--prepared", "--folder", held.folder)
    assert (done.status, "FV-CONF-004" in done.err) == (2, True), done.err
