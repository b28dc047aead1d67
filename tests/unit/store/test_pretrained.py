"""Pretrained weights as files: imported from foreign names, exported to them, with their record."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fedvol.config.data import ZScore
from fedvol.config.name_map import NameMap
from fedvol.errors import BlobDamagedError, NameMapError, TransferError
from fedvol.plan import AdaptationRecord
from fedvol.store import StateFile, export_weights, import_weights, read_record
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
