import os
from pathlib import Path

import numpy as np
import pytest

from fedvol.errors import BlobDamagedError
from fedvol.files import digest_file
from fedvol.store import BlobStore
from fedvol.types import Digest


def put(blobs: BlobStore, value: float) -> Digest:
    return blobs.put([("x", np.full(100, value, "f4"))], metadata={"round": "1"})


def test_blob_is_named_by_its_content(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    digest = put(blobs, 1.0)
    assert digest_file(blobs.path(digest)) == digest
    assert put(blobs, 1.0) == digest
    assert blobs.holds(digest)
    assert len(list((tmp_path / "blobs").iterdir())) == 1
    with blobs.open(digest) as file:
        assert file.read("x")[99] == 1.0


def test_damage_is_found_by_the_next_process(tmp_path: Path) -> None:
    digest = put(BlobStore(tmp_path), 1.0)
    path = BlobStore(tmp_path).path(digest)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BlobDamagedError, match="does not match"):
        BlobStore(tmp_path).open(digest)
    path.unlink()
    with pytest.raises(BlobDamagedError, match="absent"):
        BlobStore(tmp_path).open(digest)


def test_damaged_blob_is_healed_by_putting_it_again(tmp_path: Path) -> None:
    digest = put(BlobStore(tmp_path), 1.0)
    BlobStore(tmp_path).path(digest).write_bytes(b"damaged")
    assert put(BlobStore(tmp_path), 1.0) == digest
    with BlobStore(tmp_path).open(digest) as file:
        assert file.read("x")[0] == 1.0


def test_prune_keeps_what_it_is_told_and_removes_leftovers(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    kept, dropped = put(blobs, 1.0), put(blobs, 2.0)
    (tmp_path / "incoming-123").write_text("half")
    (tmp_path / ".incoming-123.123.part").write_text("half")
    (tmp_path / ".incoming-123.123.part.spool").write_text("half")
    (tmp_path / "README").write_text("somebody's")
    assert blobs.prune({kept}) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"README", blobs.path(kept).name}
    with pytest.raises(BlobDamagedError):
        blobs.open(dropped)
    assert BlobStore(tmp_path / "none").prune(set()) == 0


def test_failed_put_leaves_nothing(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)

    def fails():
        yield "x", np.ones(3)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        blobs.put(fails(), metadata={})
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # hidden files too
