"""What a command line answers: words, JSON, exit status; and how little it imports."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fedvol
from fedvol import errors
from fedvol.cli.main import main
from fedvol.config.model_names import require_baselines
from fedvol.errors import FedvolError

EXAMPLE = Path(__file__).parents[3] / "examples" / "hippocampus.toml"
COMMANDS = [
    [],
    ["version"],
    ["study"],
    ["study", "check"],
    ["study", "schema"],
    ["simulate"],
    ["demo"],
    ["data"],
    ["data", "phantom"],
    ["audit"],
    ["audit", "verify"],
    ["audit", "show"],
    ["audit", "export"],
    ["audit", "compare"],
    ["root"],
    ["root", "init"],
    ["root", "sign-roster"],
    ["root", "revoke"],
    ["report"],
    ["server"],
    ["server", "init"],
    ["server", "start"],
    ["server", "renew"],
    ["server", "status"],
    ["site-admin"],
    ["site-admin", "invite"],
    ["site-admin", "list"],
    ["site-admin", "suspend"],
    ["site-admin", "resume"],
    ["site-admin", "remove"],
    ["site-admin", "roster"],
    ["site-admin", "roster", "draft"],
    ["site-admin", "roster", "put"],
    ["user"],
    ["user", "add"],
    ["user", "list"],
    ["user", "remove"],
    ["user", "actions"],
    ["run"],
    *(["run", verb] for verb in ("propose", "list", "show", "watch", "start", "pause")),
    ["run", "resume"],
    ["run", "stop"],
]
GROUPS = (["study"], ["data"], ["audit"], ["root"], ["server"], ["site-admin"], ["user"], ["run"])
GROUPS += (["site-admin", "roster"],)
STATUS = {
    "ConfigError": 2,
    "DataError": 3,
    "PrivacyError": 4,
    "FederationError": 5,
    "TransportError": 6,
    "StoreError": 7,
    "PluginError": 1,
}


def _fake(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    monkeypatch.setitem(sys.modules, "fedvol.simulation", SimpleNamespace(**functions))


def _raise(error: BaseException) -> Any:
    def function(*_words: object, **_options: object) -> None:
        raise error

    return function


@pytest.mark.parametrize("words", COMMANDS, ids=[" ".join(w) or "fedvol" for w in COMMANDS])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    told = capsys.readouterr().out
    assert f"Usage: {' '.join(['fedvol', *words])}" in told
    for option in ("--json",) if words and words not in GROUPS else ("--help",):
        assert option in told


@pytest.mark.parametrize("words", [[], *GROUPS])
def test_nothing_asked_is_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "Usage: fedvol" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["version"], ["--version"]])
def test_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr().out == f"fedvol {fedvol.__version__}\n"


def test_version_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"version": fedvol.__version__}


def test_check_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "check", str(EXAMPLE), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["valid"] is True
    assert "is valid" in said.err


def test_schema_for_people_and_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "schema"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(["study", "schema", "--json"]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert json.loads(said) == plain


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["simulat"], "No such command 'simulat'. Did you mean 'simulate'? See fedvol --help."),
        (["study", "chek"], "No such command 'chek'"),
        (["simulate"], "Missing argument 'STUDY'"),
        (["simulate", "a.toml", "--data", "d"], "Missing option '--out'"),
        (["report", "a", "--jso"], "No such option '--jso'. Did you mean '--json'?"),
        (["simulate", "a", "--data", "d", "--out", "o", "--device", "tpu"], "'tpu' is not one of"),
        (["data", "phantom", "--out", "o", "--sites", "0"], "'--sites': 0 is not in the range"),
    ],
)
def test_wrong_use(words: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--json"]) == 2
    said = capsys.readouterr()
    assert reason in said.err
    assert said.err.startswith("FV-CONF-004 fedvol")
    error = json.loads(said.out.splitlines()[-1])["error"]
    assert error["code"] == "FV-CONF-004"
    assert error["exit_status"] == 2
    assert error["message"] == said.err.rstrip("\n")


@pytest.mark.parametrize(("name", "status"), STATUS.items())
def test_status_by_class(
    name: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cls: type[FedvolError] = getattr(errors, name)
    _fake(monkeypatch, rebuild_report=_raise(cls("out", "it broke", "Mend it.")))
    assert main(["report", "out", "--json"]) == status
    said = capsys.readouterr()
    assert said.err == f"{cls.code} out: it broke. Mend it.\n"
    assert json.loads(said.out)["error"] == {
        "code": cls.code,
        "message": said.err.rstrip("\n"),
        "exit_status": status,
    }


def test_every_error_class_has_its_branch_status() -> None:
    for name, status in STATUS.items():
        for child in getattr(errors, name).__subclasses__():
            assert child.exit_status == status


def test_the_unexpected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _fake(monkeypatch, rebuild_report=_raise(ZeroDivisionError("by zero")))
    assert main(["report", "out", "--json"]) == 1
    said = capsys.readouterr()
    assert "Traceback" in said.err
    assert json.loads(said.out)["error"]["message"] == "ZeroDivisionError: by zero"
    assert main(["report", "out"]) == 1
    assert capsys.readouterr().out == ""


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _fake(monkeypatch, simulate=_raise(KeyboardInterrupt()))
    words = ["simulate", str(EXAMPLE), "--data", "my data", "--out", "o"]
    assert main(words) == 130
    hint = f"Go on with: fedvol simulate {EXAMPLE} --data 'my data' --out o --resume"
    assert hint in capsys.readouterr().err
    assert main([*words, "--resume", "--json"]) == 130
    said = capsys.readouterr()
    assert said.err.count("--resume") == 1
    assert json.loads(said.out)["error"]["exit_status"] == 130


def test_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _fake(monkeypatch, rebuild_report=lambda out: out / "report.html")
    assert main(["report", "o", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"report": "o/report.html"}
    assert said.err == "Report: o/report.html\n"


def test_phantom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "phantom", "--out", str(tmp_path / "p"), "--sites", "2", "--cases", "6"]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["cases"] == {"hospital_1": 6, "hospital_2": 6}
    for name, count in said["cases"].items():
        assert len(list((tmp_path / "p" / name / "images").iterdir())) == count
    assert main([*words, "--json"]) == 2
    assert "FV-CONF-003" in capsys.readouterr().out


def test_phantoms_that_differ_in_one_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "phantom", "--out", str(tmp_path / "p"), "--differ-in", "size"]
    assert main([*words, "--sites", "2", "--cases", "40", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cases"] == {"hospital_1": 14, "hospital_2": 16}
    table = (tmp_path / "p" / "hospital_1" / "cases.csv").read_text().splitlines()
    assert sorted(line.rsplit(",")[-1] for line in table) == sorted(
        ["split", *["train"] * 2, *["validation"] * 4, *["test"] * 8]
    )


def test_a_broken_study_stops_before_heavy_imports(tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text("version = 1")
    words = ["simulate", str(study), "--data", str(tmp_path), "--out", str(tmp_path / "o")]
    loaded = _modules_after(words, status=2)
    assert "torch" not in loaded
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "words", [["--help"], ["simulate", "--help"], ["study", "check", str(EXAMPLE)], ["version"]]
)
def test_light_commands_stay_light(words: list[str]) -> None:
    loaded = _modules_after(words, status=0)
    heavy = {"torch", "flwr", "monai", "scipy", "SimpleITK", "nibabel", "blosc2"}
    heavy |= {"sqlalchemy", "alembic", "psycopg"}
    assert not heavy & loaded


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        ((), ()),
        (("pooled",), ("pooled",)),
        (("pooled", "local"), ("local", "pooled")),
        (("local", "ensemble", "pooled"), ("local", "ensemble", "pooled")),
    ],
)
def test_baselines(names: tuple[str, ...], ordered: tuple[str, ...]) -> None:
    assert require_baselines(names) == ordered


@pytest.mark.parametrize("text", ["best", "local;pooled", "local, local"])
def test_wrong_baselines(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", str(EXAMPLE), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main([*words, "--baselines", text]) == 2
    assert "FV-CONF-004 --baselines:" in capsys.readouterr().err


def _modules_after(words: list[str], *, status: int) -> set[str]:
    program = (
        "import sys\n"
        "from fedvol.cli.main import main\n"
        f"status = main({words!r})\n"
        f"assert status == {status}, status\n"
        "print('MODULES', *sorted(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "MODULES"
    return set(last[1:])
