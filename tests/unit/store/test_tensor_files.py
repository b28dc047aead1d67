import errno
import json
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedvol.errors import BlobDamagedError, CheckpointError, DiskFullError
from fedvol.files import digest_file
from fedvol.store import StateFile, write_state

DTYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    )
)
states = st.dictionaries(st.text(min_size=1, max_size=8), arrays, max_size=5)


@settings(max_examples=30, deadline=None)
@given(states, st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_round_trip_and_the_library_reads_it(tmp_path_factory, state, metadata) -> None:
    path = tmp_path_factory.mktemp("tensors") / "a.safetensors"
    digest = write_state(path, state.items(), metadata=metadata)
    assert digest == digest_file(path)
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    with StateFile(path) as file:
        assert file.names == tuple(state)
        assert dict(file.metadata) == metadata
        found = file.read_all()
    by_library = safetensors.numpy.load_file(path)
    assert set(by_library) == set(state)
    for name, array in state.items():
        for other in (found[name], by_library[name]):
            assert (other.dtype, other.shape) == (array.dtype, array.shape)
            assert other.tobytes() == array.tobytes()
        assert found[name].flags.writeable
    with safetensors.safe_open(path, "numpy") as file:
        assert (file.metadata() or {}) == metadata


def test_reads_what_the_library_wrote(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    state = {"b": np.arange(6.0).reshape(2, 3), "a": np.ones(3, "u1")}
    safetensors.numpy.save_file(state, path, metadata={"plan": "p"})
    with StateFile(path) as file:
        np.testing.assert_array_equal(file.read("b"), state["b"])
        assert file.entry("a").shape == (3,)
        file.require_metadata({"plan": "p"})


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    state = {"x": np.ones((3, 3), "f4"), "y": np.zeros(2)}
    one = write_state(tmp_path / "1", state.items(), metadata={"a": "1", "b": "2"})
    other = write_state(tmp_path / "2", state.items(), metadata={"b": "2", "a": "1"})
    big_endian = {
        name: array.astype(array.dtype.newbyteorder(">")) for name, array in state.items()
    }
    third = write_state(tmp_path / "3", big_endian.items(), metadata={"b": "2", "a": "1"})
    strided = {name: np.asfortranarray(array) for name, array in state.items()}
    fourth = write_state(tmp_path / "4", strided.items(), metadata={"b": "2", "a": "1"})
    assert one == other == third == fourth


def test_memory_is_that_of_one_tensor(tmp_path: Path) -> None:
    size = 1 << 18

    def made():
        for index in range(12):
            yield f"t{index}", np.full(size, index, dtype=np.float32)

    tracemalloc.start()
    write_state(tmp_path / "a", made(), metadata={})
    with StateFile(tmp_path / "a") as file:
        for name in file.names:
            assert file.read(name)[0] == int(name[1:])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.6 * size * 4 + (4 << 20)


@pytest.mark.parametrize(
    "bad",
    [
        [("x", np.ones(1)), ("x", np.ones(1))],
        [("x", np.array(["text"]))],
        [("__metadata__", np.ones(1))],
    ],
)
def test_senseless_tensors_leave_no_file(tmp_path: Path, bad) -> None:
    with pytest.raises(ValueError, match="tensor"):
        write_state(tmp_path / "a", bad, metadata={})
    assert not list(tmp_path.iterdir())


def test_failing_source_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_state(path, [("x", np.ones(2))], metadata={})
    before = path.read_bytes()

    def fails():
        yield "x", np.zeros(2)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_state(path, fails(), metadata={})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a"
    write_state(path, [("x", np.ones(2))], metadata={})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        write_state(path, [("x", np.zeros(2))], metadata={})
    monkeypatch.undo()
    with StateFile(path) as file:
        assert file.read("x")[0] == 1
    assert list(tmp_path.iterdir()) == [path]


def raw(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(start: int, stop: int, dtype: str = "F32", shape: tuple = (2,)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\1\2",
        raw(b"{}", length=10**12),
        raw(b"{}", length=10),
        raw(b"{"),
        raw(b"[]"),
        raw(b"\xff\xff"),
        raw(b"[" * 100_000),
        raw({"x": tensor(0, 8)}),
        raw({"x": tensor(0, 8)}, b"1234567"),
        raw({"x": tensor(0, 8)}, b"123456789"),
        raw({"x": tensor(0, 8), "y": tensor(0, 8)}, b"12345678"),
        raw({"x": tensor(0, 8), "y": tensor(9, 17)}, bytes(17)),
        raw({"x": tensor(8, 0)}, b"12345678"),
        raw({"x": tensor(0, 8, shape=(3,))}, b"12345678"),
        raw({"x": tensor(0, 8, shape=(-2, -1))}, b"12345678"),
        raw({"x": tensor(0, 8, shape=(2.0,))}, b"12345678"),
        raw({"x": tensor(0, 8, dtype="BF16", shape=(4,))}, b"12345678"),
        raw({"x": tensor(0, 8, shape=(2**62, 2**62))}, b"12345678"),
        raw({"x": tensor(0, 0, shape=(0, 2**62))}),
        raw({"x": tensor(0, 4, shape=(1,) * 65)}, b"1234"),
        raw({"x": {"dtype": "F32"}}),
        raw({"x": {"dtype": "a", "shape": "b", "data_offsets": "c"}}),
        raw({"__metadata__": tensor(0, 0, shape=(0,))}, b"1"),
    ],
)
def test_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(BlobDamagedError, match="FV-STORE-003"):
        StateFile(path)


def test_absent_file_tensor_and_wrong_words(tmp_path: Path) -> None:
    with pytest.raises(BlobDamagedError):
        StateFile(tmp_path / "absent")
    write_state(tmp_path / "a", [("x", np.ones(1))], metadata={"plan": "p"})
    with StateFile(tmp_path / "a") as file:
        with pytest.raises(CheckpointError, match="no tensor y"):
            file.read("y")
        with pytest.raises(CheckpointError, match="plan is p instead of q"):
            file.require_metadata({"plan": "q"})
        with pytest.raises(CheckpointError, match="round is not stated"):
            file.require_metadata({"round": "1"})


def test_file_cut_while_it_is_read(tmp_path: Path) -> None:
    write_state(tmp_path / "a", [("x", np.ones(10_000))], metadata={})
    with StateFile(tmp_path / "a") as file:
        os.truncate(tmp_path / "a", 1000)
        with pytest.raises(BlobDamagedError, match="too early"):
            file.read("x")
