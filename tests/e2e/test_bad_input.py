"""Bad input at the command level: named, with the right status, and nothing half-written."""

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pretraining import pretrained_text
from tiny import fedvol_command, half_written, tiny_text

from fedvol.errors import QuorumError
from fedvol.files import digest_file, locked_folder
from fedvol.report import read_result
from fedvol.simulation.federate import Federated
from fedvol.simulation.session import Session
from fedvol.types import SiteId

SHORT = {"rounds": "rounds = 1", "steps_per_round": "steps_per_round = 1"}
LENIENT = {
    "split": 'split = { kind = "fold", test = 0, validation = 1 }\nmax_skipped_share = 0.4',
}


@pytest.fixture
def hospitals(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the hospitals that a test may break."""
    return Path(shutil.copytree(tiny_data, tmp_path / "hospitals"))


def write_study(folder: Path, **changes: str) -> Path:
    path = folder / "study.toml"
    path.write_text(tiny_text(**changes))
    return path


def simulate(fedvol, study: Path, data: Path, out: Path, *more: str):
    return fedvol("simulate", study, "--data", data, "--out", out, "--device", "cpu", *more)


def volume(data: Path, case: str, kind: str = "images") -> Path:
    return data / case[: len("hospital_1")] / kind / f"{case}.nii.gz"


def training_cases(data: Path, site: str) -> list[str]:
    lines = (data / site / "cases.csv").read_text().splitlines()[1:]
    return [line.split(",")[0] for line in lines if line.split(",")[3] not in ("0", "1")]


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], *, dtype: type) -> None:
    image = nib.loadsave.load(path)
    array = change(np.asanyarray(image.dataobj).astype(dtype))  # type: ignore[attr-defined]
    nib.loadsave.save(nib.nifti1.Nifti1Image(array, image.affine), path)  # type: ignore[attr-defined]


def with_nan(array: np.ndarray) -> np.ndarray:
    array[3, 3, 3] = np.nan
    return array


def with_unknown_label(array: np.ndarray) -> np.ndarray:
    array[0, 0, 0] = 9
    return array


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, digest_file(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- volumes ---------------------------------------------------------------------------------


def test_broken_volumes_are_skipped_by_name(fedvol, hospitals: Path, tmp_path: Path) -> None:
    (one, two), (three, four), (five, six) = (
        training_cases(hospitals, f"hospital_{number}")[:2] for number in (1, 2, 3)
    )
    cut = volume(hospitals, one)
    cut.write_bytes(cut.read_bytes()[:2000])
    volume(hospitals, two).unlink()
    rewrite(volume(hospitals, three), with_nan, dtype=np.float32)
    rewrite(volume(hospitals, four, "labels"), with_unknown_label, dtype=np.uint8)
    rewrite(volume(hospitals, five, "labels"), lambda array: array[:-1], dtype=np.uint8)
    volume(hospitals, six).write_bytes(gzip.compress(b"no volume at all" * 100))
    out = tmp_path / "out"
    ended = simulate(fedvol, write_study(tmp_path, **SHORT, **LENIENT), hospitals, out)
    assert ended.status == 0, ended.err
    result = read_result(out / "result.json")
    assert result.skipped == {
        "hospital_1": {"FV-DATA-003": 1, "FV-DATA-004": 1},
        "hospital_2": {"FV-DATA-009": 1, "FV-DATA-011": 1},
        "hospital_3": {"FV-DATA-007": 1, "FV-DATA-003": 1},
    }
    reasons = {case: why for cases in result.skipped_cases.values() for case, why in cases.items()}
    assert set(reasons) == {one, two, three, four, five, six}
    assert all(case in why for case, why in reasons.items())
    assert "hospital_3: 6 cases: 4 prepared, 2 skipped (FV-DATA-003 1, FV-DATA-007 1)" in ended.err
    assert "Left out: 6 cases (hospital_1 FV-DATA-003 1, FV-DATA-004 1; " in ended.err
    for site in result.sites:
        listed = len(training_cases(hospitals, site))
        assert result.sites[site].training_cases == listed - 2
    assert half_written(out) == []


def test_too_many_broken_volumes(fedvol, hospitals: Path, tmp_path: Path) -> None:
    broken = training_cases(hospitals, "hospital_2")[:2]
    for case in broken:
        volume(hospitals, case).write_bytes(b"")
    out = tmp_path / "out"
    study = write_study(tmp_path, **SHORT)
    ended = simulate(fedvol, study, hospitals, out)
    assert ended.status == 3
    assert "FV-DATA-016" in ended.err
    assert all(case in ended.err for case in broken)
    assert "max_skipped_share" in ended.err
    assert not (out / "result.json").exists()
    assert half_written(out) == []

    # The message says to raise the share in the study: the same folder then serves.
    again = simulate(fedvol, study, hospitals, out)
    assert again.status == 2
    assert "--resume" in again.err
    write_study(tmp_path, **SHORT, **LENIENT)
    ended = simulate(fedvol, study, hospitals, out, "--resume")
    assert ended.status == 0, ended.err
    assert (out / "study.toml").read_text() == study.read_text()
    assert read_result(out / "result.json").skipped == {"hospital_2": {"FV-DATA-003": 2}}


def test_a_subject_at_two_sites(fedvol, hospitals: Path, tmp_path: Path) -> None:
    table = hospitals / "hospital_2" / "cases.csv"
    table.write_text(table.read_text().replace("hospital_2_s003", "Hospital_1_S001 "))
    ended = simulate(fedvol, write_study(tmp_path), hospitals, tmp_path / "out")
    assert ended.status == 3
    assert "FV-DATA-014" in ended.err or "FV-DATA-002" in ended.err
    assert "hospital_1_s001" in ended.err.lower()


def test_the_same_volume_at_two_sites(fedvol, hospitals: Path, tmp_path: Path) -> None:
    one, two = (training_cases(hospitals, f"hospital_{number}")[0] for number in (1, 2))
    for kind in ("images", "labels"):
        shutil.copy(volume(hospitals, one, kind), volume(hospitals, two, kind))
    ended = simulate(fedvol, write_study(tmp_path), hospitals, tmp_path / "out")
    assert ended.status == 3
    assert "FV-DATA-015" in ended.err
    assert one in ended.err
    assert two in ended.err


def test_no_data_folder(fedvol, tmp_path: Path) -> None:
    ended = simulate(fedvol, write_study(tmp_path), tmp_path / "nowhere", tmp_path / "out")
    assert ended.status == 3
    assert "FV-DATA-001" in ended.err
    assert not (tmp_path / "out").exists()  # the corrected call finds nothing in its way


def test_fewer_sites_than_the_study_asks_for(fedvol, tiny_data: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(tiny_text(more="\n[federation]\nmin_sites = 4\n"))
    ended = simulate(fedvol, study, tiny_data, tmp_path / "out")
    assert ended.status == 5
    assert "3 sites have training cases (hospital_1, hospital_2, hospital_3), " in ended.err
    assert "federation.min_sites is 4" in ended.err
    assert not (tmp_path / "out").exists()


# --- the output folder -----------------------------------------------------------------------


def test_out_is_a_file(fedvol, tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("a letter")
    ended = simulate(fedvol, write_study(tmp_path), tiny_data, out)
    assert (ended.status, out.read_text()) == (2, "a letter")
    assert "FV-CONF-003" in ended.err


@pytest.mark.parametrize("resume", [(), ("--resume",)])
@pytest.mark.parametrize("name", ["thesis.docx", "sites", "study.toml", ".lock"])
def test_out_holds_something_else(
    name: str, resume: tuple[str, ...], fedvol, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    (out / "notes.txt").write_text("mine")
    before = tree(out)
    ended = simulate(fedvol, write_study(tmp_path), tiny_data, out, *resume)
    assert ended.status == 2
    assert "FV-CONF-003" in ended.err
    assert tree(out) == before


def test_out_holds_a_finished_run(fedvol, tiny_run) -> None:
    before = tree(tiny_run.out)
    ended = simulate(fedvol, tiny_run.study, tiny_run.data, tiny_run.out)
    assert ended.status == 2
    assert "--resume" in ended.err
    assert tree(tiny_run.out) == before


def test_out_cannot_be_written(tiny_data: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    words = fedvol_command(
        "simulate", write_study(tmp_path), "--data", tiny_data, "--out", locked / "out"
    )
    if os.geteuid() == 0:  # root may write everywhere, but for what is taken from it
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and setpriv is absent")
        words = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", *words]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 7, ended.stderr
    assert f"FV-STORE-000 {locked / 'out'}" in ended.stderr


def test_out_is_in_use(fedvol, tiny_run, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tiny_run.out, tmp_path / "out"))
    with locked_folder(out):
        ended = simulate(fedvol, tiny_run.study, tiny_run.data, out, "--resume")
    assert ended.status == 7
    assert "FV-STORE-001" in ended.err
    assert str(os.getpid()) in ended.err  # who holds it


def test_a_run_that_failed_leaves_its_reason(
    fedvol, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: Session) -> None:
        raise QuorumError("run federated round 1", "abandoned 3 times in a row", "Look.")

    monkeypatch.setattr(Session, "federated", fail)
    out = tmp_path / "out"
    ended = simulate(fedvol, write_study(tmp_path, **SHORT), tiny_data, out)
    assert ended.status == 5, ended.err
    result = read_result(out / "result.json")
    assert (result.status, result.evaluation, result.stages[0].rounds) == ("failed", {}, [])
    assert result.reason.startswith("FV-FED-001 run federated round 1: abandoned 3 times")
    assert "This run failed." in (out / "report.html").read_text()
    assert fedvol("report", out).status == 0

    monkeypatch.undo()
    train_alone = Session.local

    def diverge(session: Session, site: SiteId) -> Federated:
        if site == "hospital_2":
            raise QuorumError("run local-hospital_2 round 1", "abandoned 3 times in a row", "Look.")
        return train_alone(session, site)

    monkeypatch.setattr(Session, "local", diverge)
    more = ("--resume", "--baselines", "local")
    ended = simulate(fedvol, write_study(tmp_path, **SHORT), tiny_data, out, *more)
    assert ended.status == 5, ended.err
    result = read_result(out / "result.json")
    assert (result.status, set(result.evaluation)) == ("failed", {"federated", "local/hospital_1"})
    assert set(result.comparisons) == {"local/hospital_1"}
    assert result.reason.startswith("FV-FED-001 run local-hospital_2 round 1")
    assert (out / "checkpoints" / "federated.safetensors").exists()
    assert "This run failed." in (out / "report.html").read_text()

    monkeypatch.undo()
    ended = simulate(fedvol, write_study(tmp_path, **SHORT), tiny_data, out, "--resume")
    assert ended.status == 0, ended.err
    assert read_result(out / "result.json").status == "finished"


def test_hospitals_with_too_few_cases_to_blend_are_named_before_anything_lies_anywhere(
    fedvol, hospitals: Path, tmp_path: Path
) -> None:
    for home in sorted(hospitals.iterdir())[1:]:
        keep = {*training_cases(hospitals, home.name)[:1]}
        gone = {*training_cases(hospitals, home.name)} - keep
        table = home / "cases.csv"
        kept = [line for line in table.read_text().splitlines() if line.split(",")[0] not in gone]
        table.write_text("\n".join(kept) + "\n")
    study = tmp_path / "study.toml"
    study.write_text(pretrained_text())
    ended = simulate(fedvol, study, hospitals, tmp_path / "out")
    assert ended.status == QuorumError.exit_status
    assert (
        f"FV-FED-001 {hospitals}: 1 of at least 2 sites could pretrain by volume_fusion, which "
        "needs two cases to train on (too few at hospital_2, hospital_3)"
    ) in ended.err
    assert not (tmp_path / "out").exists()


# --- a run that goes on as another -----------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": "seed = 8"},
        {"spacing_mm": "spacing_mm = [5.0, 5.0, 5.0]"},
        {"strategy": 'kind = "fedprox"'},
        {"rounds": "rounds = 4"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_resumed_with_another_study(changes, fedvol, tiny_run, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tiny_run.out, tmp_path / "out"))
    before = tree(out)
    study = write_study(tmp_path, **changes)
    ended = simulate(fedvol, study, tiny_run.data, out, "--resume")
    assert ended.status == 7
    assert "FV-STORE-005" in ended.err
    assert "other study" in ended.err
    after = tree(out)
    assert {k: v for k, v in after.items() if k != ".lock"} == {
        k: v for k, v in before.items() if k != ".lock"
    }


def test_a_comment_makes_no_other_study(fedvol, tiny_run, tmp_path: Path) -> None:
    """Read as far as the data, which is another: the study passed."""
    out = Path(shutil.copytree(tiny_run.out, tmp_path / "out"))
    study = tmp_path / "study.toml"
    study.write_text("# a note\n" + tiny_run.study.read_text())
    ended = simulate(fedvol, study, tmp_path / "nowhere", out, "--resume")
    assert ended.status == 3


def test_resumed_with_other_data(fedvol, tiny_run, hospitals: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tiny_run.out, tmp_path / "out"))
    case = training_cases(hospitals, "hospital_2")[0]
    rewrite(volume(hospitals, case), lambda array: array + 1, dtype=np.int16)
    ended = simulate(fedvol, tiny_run.study, hospitals, out, "--resume")
    assert ended.status == 7
    assert "FV-STORE-005" in ended.err
    assert "data of hospital_2" in ended.err
    assert "hospital_1" not in ended.err.rpartition("FV-STORE-005")[2]
    assert json.loads((out / "simulation.json").read_text()) == json.loads(
        (tiny_run.out / "simulation.json").read_text()
    )


def test_resumed_without_a_site(fedvol, tiny_run, hospitals: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tiny_run.out, tmp_path / "out"))
    shutil.rmtree(hospitals / "hospital_3")
    ended = simulate(fedvol, tiny_run.study, hospitals, out, "--resume")
    assert ended.status == 7
    assert "data of hospital_3" in ended.err


@pytest.mark.parametrize(
    ("name", "content"),
    [("simulation.json", b'{"run":'), ("study.toml", b"["), ("study.toml", None)],
)
def test_a_run_that_lost_what_it_began_with_is_not_resumed(
    name: str, content: bytes | None, fedvol, tiny_run, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(tiny_run.out, tmp_path / "out"))
    if content is None:
        (out / name).unlink()
    else:
        (out / name).write_bytes(content)
    ended = simulate(fedvol, tiny_run.study, tiny_run.data, out, "--resume")
    assert ended.status == 7
    assert f"FV-STORE-000 {out / name}: " in ended.err
    assert "Restore the file" in ended.err


@pytest.mark.parametrize("content", [b"{", b"{}", b"\xff"])
def test_a_damaged_plan_is_named_by_the_report(content, fedvol, tiny_run, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tiny_run.out, tmp_path / "out"))
    (out / "plan.json").write_bytes(content)
    ended = fedvol("report", out)
    assert ended.status == 7
    assert f"FV-STORE-000 {out / 'plan.json'}: the plan of this run cannot be read" in ended.err


def test_a_damaged_blob_is_named(fedvol, tiny_run, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tiny_run.out, tmp_path / "out"))
    for blob in (out / "blobs" / "federated").iterdir():
        blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    ended = simulate(fedvol, tiny_run.study, tiny_run.data, out, "--resume")
    assert ended.status == 7
    assert "FV-STORE-003" in ended.err


def test_a_forged_audit_log_stops_the_site(fedvol, tiny_run, tmp_path: Path) -> None:
    out = Path(shutil.copytree(tiny_run.out, tmp_path / "out"))
    log = out / "sites" / "hospital_1" / "audit.jsonl"
    log.write_text(log.read_text().replace('"kind":"update"', '"kind":"health"', 1))
    ended = simulate(fedvol, tiny_run.study, tiny_run.data, out, "--resume")
    assert ended.status == 4
    assert "FV-PRIV-004" in ended.err
