"""Pretrained weights as files: imported from foreign names, exported to them, with their record."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from pretraining import started_text
from safetensors.numpy import load_file, save_file
from tiny import tiny_text

from fedvol.config import OpenStudy
from fedvol.config.data import ZScore
from fedvol.config.loading import parse_open_study
from fedvol.config.name_map import NameMap
from fedvol.errors import BlobDamagedError, ConfigFileError, NameMapError, TransferError
from fedvol.files import digest_file
from fedvol.plan import AdaptationRecord
from fedvol.store import (
    StateFile,
    export_weights,
    find_weights,
    import_weights,
    read_record,
    write_state,
)
from fedvol.types import Digest

NAMES = NameMap(prefix="net.", names={"enc.{n}.{leaf}": "encoder.{n}.{leaf}", "s": "stem"})
RECORD = AdaptationRecord(
    architecture=Digest("0" * 64),
    task="mae",
    transfers="encoder",
    names=NAMES,
    channels=("CT",),
    patch=(16, 16, 16),
    spacing_mm=(1.0, 1.0, 1.0),
    normalisation=ZScore(kind="z_score"),
)
THEIRS = {
    "net.enc.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "net.enc.1.weight": np.arange(4, dtype=np.float16),
    "net.s": np.ones((), dtype=np.int64),
    "net.decoder.encoder.0.weight": np.zeros(3, dtype=np.float32),
    "optimiser": np.zeros(1, dtype=np.float32),
}


def test_a_foreign_file_is_written_under_our_names(tmp_path: Path) -> None:
    save_file(THEIRS, tmp_path / "theirs.safetensors")
    ours = tmp_path / "ours.safetensors"
    renaming = import_weights(tmp_path / "theirs.safetensors", ours, record=RECORD)
    assert set(renaming.unexpected) == {"net.decoder.encoder.0.weight", "optimiser"}
    assert dict(renaming.names) == {
        "encoder.0.weight": "net.enc.0.weight",
        "encoder.1.weight": "net.enc.1.weight",
        "stem": "net.s",
    }
    with StateFile(ours) as file:
        state = file.read_all()
    assert set(state) == set(renaming.names)
    for name, theirs in renaming.names.items():
        np.testing.assert_array_equal(state[name], THEIRS[theirs])
        assert state[name].dtype == THEIRS[theirs].dtype
    assert read_record(ours) == RECORD.model_copy(update={"names": NameMap()})


def test_exported_weights_come_back(tmp_path: Path) -> None:
    state = {"stem": np.ones(2, np.float32), "encoder.4.bias": np.zeros(3, np.float32)}
    plain = RECORD.model_copy(update={"names": NameMap()})
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    renaming = export_weights(state | {"heads.0": np.zeros(1)}, there, record=plain, names=NAMES)
    assert renaming.unexpected == ("heads.0",)
    assert set(load_file(there)) == {"net.s", "net.enc.4.bias"}
    assert read_record(there) == RECORD
    assert import_weights(there, back, record=read_record(there)).unexpected == ()
    with StateFile(back) as file:
        assert {name: array.tolist() for name, array in file.read_all().items()} == {
            "stem": [1, 1],
            "encoder.4.bias": [0, 0, 0],
        }


def test_a_file_under_other_names_is_exported_by_ours(tmp_path: Path) -> None:
    """As that of a task which wraps the encoder: its record has a prefix."""
    held = RECORD.model_copy(update={"names": NameMap(prefix="body.")})
    state = {"body.stem": np.ones(2, np.float32), "projector": np.zeros(3, np.float32)}
    plain, named = tmp_path / "plain.safetensors", tmp_path / "named.safetensors"
    export_weights(state, plain, record=held, names=NameMap())
    assert set(load_file(plain)) == {"stem"}
    export_weights(state, named, record=held, names=NAMES)
    assert set(load_file(named)) == {"net.s"}
    again = NameMap(names={"root": "stem"})
    export_weights(load_file(named), plain, record=read_record(named), names=again)
    assert set(load_file(plain)) == {"root"}
    nothing = tmp_path / "nothing.safetensors"
    with pytest.raises(NameMapError, match="no pattern fits any tensor, such as stem"):
        export_weights(state, nothing, record=held, names=NameMap(names={"a.{n}": "b.{n}"}))
    assert not nothing.exists()


def test_a_file_without_a_record_is_refused(tmp_path: Path) -> None:
    save_file(THEIRS, tmp_path / "theirs.safetensors")
    with pytest.raises(TransferError, match=r"theirs\.safetensors"):
        read_record(tmp_path / "theirs.safetensors")


def test_two_tensors_of_one_name_write_nothing(tmp_path: Path) -> None:
    save_file(THEIRS, tmp_path / "theirs.safetensors")
    names = NameMap(names={"net.enc.0.weight": "a", "net.enc.1.weight": "a"})
    with pytest.raises(NameMapError, match="would have this name"):
        import_weights(
            tmp_path / "theirs.safetensors",
            tmp_path / "ours.safetensors",
            record=RECORD.model_copy(update={"names": names}),
        )
    assert not (tmp_path / "ours.safetensors").exists()


def test_what_is_no_file_of_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(BlobDamagedError):
        import_weights(tmp_path / "broken.safetensors", tmp_path / "ours", record=RECORD)


# --- a study's file ---------------------------------------------------------------------------


def study(file: str, terms: str = "") -> OpenStudy:
    return parse_open_study(started_text(file, terms=terms), where="x")


def write_pretrained(path: Path, **metadata: str) -> Path:
    write_state(path, [("stem", np.ones(2))], metadata=metadata or RECORD.metadata())
    return path


def test_a_study_without_a_file_is_as_it_was(tmp_path: Path) -> None:
    plain = parse_open_study(tiny_text(), where="x")
    assert find_weights(plain, folder=tmp_path) == (plain, None)


def test_a_file_is_found_from_the_studys_folder_on_and_named_by_content(tmp_path: Path) -> None:
    path = write_pretrained(tmp_path / "w.safetensors")
    (tmp_path / "studies").mkdir()
    named, found = find_weights(study("../w.safetensors"), folder=tmp_path / "studies")
    assert found is not None
    assert found.record == RECORD
    assert named.weights is not None
    assert (named.weights.file, named.weights.digest) == (None, digest_file(path))
    pinned = study("w.safetensors", terms=f'digest = "{digest_file(path)}"')
    assert find_weights(pinned, folder=tmp_path)[0] == named
    assert "w.safetensors" not in named.model_dump_json()
    with pytest.raises(ConfigFileError, match="does not name its file"):
        find_weights(named, folder=tmp_path)


def test_a_file_that_is_not_there_or_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match="there is no such file of weights"):
        find_weights(study("w.safetensors"), folder=tmp_path)
    write_pretrained(tmp_path / "w.safetensors")
    with pytest.raises(TransferError, match="and the file is"):
        find_weights(study("w.safetensors", terms=f'digest = "{"0" * 64}"'), folder=tmp_path)


def test_a_file_that_changes_while_it_is_used_is_refused(tmp_path: Path) -> None:
    _, found = find_weights(study(str(write_pretrained(tmp_path / "w"))), folder=tmp_path)
    assert found is not None
    write_pretrained(tmp_path / "w", **RECORD.metadata(), more="x")
    with pytest.raises(BlobDamagedError, match="changed while it was read"):
        found.read()


def test_foreign_and_cut_files_are_told_with_what_to_do(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    (tmp_path / "old.pth").write_bytes(b"\x80\x02" + b"x" * 64)
    for name in ("model.pt", "old.pth"):
        with pytest.raises(TransferError, match=r"checkpoint of PyTorch.*\n?.*fedvol model import"):
            read_record(tmp_path / name)
    write_pretrained(tmp_path / "bare", other="x")
    with pytest.raises(TransferError, match="fedvol model import"):
        read_record(tmp_path / "bare")
    whole = write_pretrained(tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-3])
    with pytest.raises(BlobDamagedError, match="Copy the file anew"):
        read_record(tmp_path / "cut")
