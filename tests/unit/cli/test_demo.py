"""The demo's folder: what it takes, what it leaves alone, and how it goes on after Ctrl-C."""

import sys
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedvol.cli.main import main

STUDY = resources.files("fedvol.cli").joinpath("demo.toml").read_bytes()


class Fakes:
    """Hospitals and a run that take no time; either can be interrupted."""

    def __init__(self) -> None:
        self.made = 0
        self.runs: list[dict[str, Any]] = []
        self.interrupt = ""

    def hospitals(self, folder: Path, **_options: object) -> None:
        (folder / "hospital_1").mkdir()
        if self.interrupt == "hospitals":
            raise KeyboardInterrupt
        self.made += 1

    def simulate(self, study: Path, **options: Any) -> object:
        assert study.read_bytes() == STUDY
        assert (options["data"] / "hospital_1").is_dir()
        self.runs.append(options)
        if self.interrupt == "run":
            raise KeyboardInterrupt
        options["out"].mkdir(exist_ok=True)
        (options["out"] / "run.db").touch()
        return object()


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    fakes = Fakes()
    phantom = SimpleNamespace(
        default_hospitals=lambda _sites, _cases: (), generate_hospitals=fakes.hospitals
    )
    summary = SimpleNamespace(
        as_table=lambda _result: "",
        skipped_line=lambda _result: "",
        summarise=lambda _result, out: {},
    )
    monkeypatch.setitem(sys.modules, "fedvol.data.phantom", phantom)
    monkeypatch.setitem(sys.modules, "fedvol.cli.summary", summary)
    monkeypatch.setitem(sys.modules, "fedvol.simulation", SimpleNamespace(simulate=fakes.simulate))
    monkeypatch.setattr("fedvol.telemetry.set_up_logging", lambda _stream: None)
    return fakes


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_new_or_empty_folder_is_taken(tmp_path: Path, fakes: Fakes, resume: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        assert main(["demo", "--out", str(tmp_path / name), *resume]) == 0
        assert (tmp_path / name / "study.toml").read_bytes() == STUDY
    assert fakes.made == len(fakes.runs) == 2


@pytest.mark.parametrize("resume", [[], ["--resume"]])
@pytest.mark.parametrize(
    "names",
    [
        ["study.toml"],
        ["notes.txt"],
        ["study.toml", "hospitals/x"],
        ["hospitals/x"],
        ["run/run.db"],
    ],
    ids=" ".join,
)
def test_what_is_somebody_elses_stays(
    tmp_path: Path,
    fakes: Fakes,
    names: list[str],
    resume: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = _tree(tmp_path)
    assert main(["demo", "--out", str(tmp_path), *resume]) == 2
    assert "FV-CONF-003" in (said := capsys.readouterr().err)
    assert "of something else, or a demo of another version. Name a new or empty folder" in said
    assert _tree(tmp_path) == before
    assert not fakes.runs


def test_a_copy_of_the_study_among_other_files_makes_no_demo(tmp_path: Path, fakes: Fakes) -> None:
    (tmp_path / "study.toml").write_bytes(STUDY)
    (tmp_path / "notes.txt").touch()
    assert main(["demo", "--out", str(tmp_path), "--resume"]) == 2
    assert not fakes.made


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").touch()
    assert main(["demo", "--out", str(tmp_path / "a")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_twice(tmp_path: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["demo", "--out", str(tmp_path / "demo")]
    assert main(words) == 0
    before = _tree(tmp_path)
    capsys.readouterr()
    assert main(words) == 2
    told = "holds a demo already. Add --resume to continue it, or name another folder with --out."
    assert told in capsys.readouterr().err
    assert _tree(tmp_path) == before
    assert main([*words, "--resume"]) == 0
    assert fakes.made == 1
    assert fakes.runs[-1]["resume"] is True


@pytest.mark.parametrize("moment", ["study", "hospitals", "run"])
def test_goes_on_after_an_interrupt(
    tmp_path: Path,
    fakes: Fakes,
    moment: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "demo"
    fakes.interrupt = moment
    with monkeypatch.context() as patch:
        if moment == "study":
            patch.setattr("fedvol.files.write_atomic", _killed_while_writing)
        assert main(["demo", "--out", str(out)]) == 130
    assert f"Go on with: fedvol demo --out {out} --resume" in capsys.readouterr().err
    fakes.interrupt = ""
    assert main(["demo", "--out", str(out), "--resume"]) == 0
    assert fakes.made == 1
    assert (out / "run" / "run.db").exists()


def test_goes_on_after_a_kill_among_the_hospitals(tmp_path: Path, fakes: Fakes) -> None:
    """A killed process removes nothing; half-made hospitals lie there."""
    (tmp_path / "study.toml").write_bytes(STUDY)
    (tmp_path / ".hospitals.part" / "half").mkdir(parents=True)
    assert main(["demo", "--out", str(tmp_path), "--resume"]) == 0
    assert not (tmp_path / "hospitals" / "half").exists()
    assert fakes.made == 1


def _killed_while_writing(target: Path, _data: bytes) -> None:
    target.parent.mkdir(parents=True)
    target.with_name(".study.toml.1.part").touch()
    raise KeyboardInterrupt
