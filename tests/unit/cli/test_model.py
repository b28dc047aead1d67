"""Files of weights: what is in them, in and out under other names, and what is refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny_study, tiny_text

from fedvol.cli.main import main
from fedvol.errors import (
    BlobDamagedError,
    NameMapError,
    StudyError,
    TransferError,
    UsageError,
)
from fedvol.models import initial_network, to_arrays
from fedvol.store import PretrainedFile, write_state
from fedvol.types import State


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study, a name map, and weights of its network under other names."""
    (tmp_path / "study.toml").write_text(tiny_text())
    ours = to_arrays(initial_network(tiny_study()))
    write_state(tmp_path / "theirs", renamed(ours).items(), metadata={})
    patterns = "".join(
        f'"{theirs}" = "{name}"\n' for name, theirs in zip(ours, renamed(ours), strict=True)
    )
    (tmp_path / "names.toml").write_text(f"version = 1\n[names]\n{patterns}")
    return tmp_path


def renamed(state: State) -> dict[str, Any]:
    return {f"net_{name.replace('.', '_')}": array for name, array in state.items()}


def import_words(folder: Path, *, to: str = "ours") -> list[str]:
    words = ["model", "import", folder / "theirs", "--study", folder / "study.toml"]
    words += ["--names", folder / "names.toml", "--task", "elsewhere", "--transfers", "whole"]
    return [*map(str, [*words, "--to", folder / to]), "--json"]


def last(out: str) -> dict[str, Any]:
    return json.loads(out.splitlines()[-1])


def test_in_and_out_again_are_the_same_tensors(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = to_arrays(initial_network(tiny_study()))
    assert main(import_words(folder)) == 0
    told = last(capsys.readouterr().out)
    assert (told["written"], told["unexpected"], told["missing"]) == ([*ours], [], [])
    held = PretrainedFile.open(folder / "ours")
    assert (held.record.task, held.record.transfers) == ("elsewhere", "whole")
    assert all(np.array_equal(array, ours[name]) for name, array in held.read().items())
    names = ["--names", str(folder / "names.toml")]
    words = ["model", "export", str(folder / "ours"), "--to", str(folder / "back"), *names]
    assert main([*words, "--json"]) == 0
    assert last(capsys.readouterr().out)["written"] == [*renamed(ours)]
    back = PretrainedFile.open(folder / "back")
    assert back.record.architecture == held.record.architecture
    assert all(np.array_equal(array, renamed(ours)[name]) for name, array in back.read().items())


def test_show_tells_record_and_tensors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(import_words(folder)) == 0
    assert main(["model", "show", str(folder / "ours"), "--json"]) == 0
    captured = capsys.readouterr()
    assert "elsewhere" in captured.err
    assert "4 x 4 x 4 mm" in captured.err
    told = last(captured.out)
    assert told["record"]["channels"] == ["CT"]
    assert told["tensors"]["heads.0.bias"] == [4]
    assert main(["model", "show", str(folder / "theirs"), "--json"]) == 0
    captured = capsys.readouterr()
    assert "No record" in captured.err
    assert last(captured.out)["record"] is None


def test_what_is_missing_and_strange_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = to_arrays(initial_network(tiny_study()))
    kept = {name: array for name, array in renamed(ours).items() if "heads" not in name}
    strange = {"net_momentum": np.zeros(3, dtype=np.float32)}
    write_state(folder / "theirs", {**kept, **strange}.items(), metadata={})
    assert main(import_words(folder)) == 0
    told = last(capsys.readouterr().out)
    assert told["unexpected"] == ["net_momentum"]
    assert told["missing"] == ["heads.0.weight", "heads.0.bias"]


def test_nothing_is_written_over_a_file(folder: Path) -> None:
    (folder / "ours").write_text("kept")
    assert main(import_words(folder)) == UsageError.exit_status
    words = ["model", "export", str(folder / "theirs"), "--to", str(folder / "ours")]
    assert main(words) == UsageError.exit_status
    assert (folder / "ours").read_text() == "kept"


def test_without_a_fitting_map_nothing_is_imported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = import_words(folder)
    at = words.index("--names")
    assert main([*words[:at], *words[at + 2 :]]) == TransferError.exit_status
    assert "--names" in capsys.readouterr().err
    assert not (folder / "ours").exists()
    (folder / "names.toml").write_text('version = 1\n[names]\n"{a}" = "b"\n')
    assert main(words) == NameMapError.exit_status
    assert not (folder / "ours").exists()


def test_foreign_files_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "theirs").write_bytes(pickle.dumps({"net": 1}))
    assert main(import_words(folder)) == TransferError.exit_status
    assert "checkpoint of PyTorch" in capsys.readouterr().err
    (folder / "theirs").write_bytes(b"\x08")
    assert main(import_words(folder)) == BlobDamagedError.exit_status
    (folder / "theirs").unlink()
    assert main(["model", "show", str(folder / "theirs")]) == BlobDamagedError.exit_status
    (folder / "study.toml").write_text(tiny_text(size="size = [16, 16]"))
    assert main(import_words(folder)) == StudyError.exit_status
    assert not (folder / "ours").exists()


def test_weights_without_a_record_are_not_exported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model", "export", str(folder / "theirs"), "--to", str(folder / "out")]
    assert main(words) == TransferError.exit_status
    assert "does not say what its weights were trained on" in capsys.readouterr().err
    assert not (folder / "out").exists()
