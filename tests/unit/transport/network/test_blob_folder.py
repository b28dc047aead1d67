"""Weights on their way, at the server."""

import hashlib
from pathlib import Path

import pytest

from fedvol.errors import BlobRefusedError
from fedvol.transport.network.blob_folder import BlobFolder
from fedvol.types import Digest, SiteId

SITE, OTHER = SiteId("site_a"), SiteId("site_b")
CONTENT = b"weights" * 100
DIGEST = Digest(hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def folder(tmp_path: Path) -> BlobFolder:
    return BlobFolder(tmp_path, max_bytes=1000, max_waiting=2)


def bring(folder: BlobFolder, content: bytes = CONTENT, digest: Digest = DIGEST) -> None:
    part = folder.open_part(SITE, digest, offset=0, size_bytes=len(content))
    part.write_bytes(content)
    folder.close_part(SITE, digest)


def test_parts_make_a_whole(folder: BlobFolder) -> None:
    assert folder.offset(SITE, DIGEST) == (0, False)
    with folder.open_part(SITE, DIGEST, offset=0, size_bytes=300).open("ab") as file:
        file.write(CONTENT[:300])
    assert folder.offset(SITE, DIGEST) == (300, False)
    with folder.open_part(SITE, DIGEST, offset=300, size_bytes=400).open("ab") as file:
        file.write(CONTENT[300:])
    folder.close_part(SITE, DIGEST)
    assert folder.offset(SITE, DIGEST) == (700, True)
    assert folder.up(SITE, DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("offset", [1, 299, 301])
def test_bytes_follow_those_that_are_there(folder: BlobFolder, offset: int) -> None:
    folder.open_part(SITE, DIGEST, offset=0, size_bytes=300).write_bytes(CONTENT[:300])
    with pytest.raises(BlobRefusedError, match="do not follow"):
        folder.open_part(SITE, DIGEST, offset=offset, size_bytes=10)


def test_other_bytes_than_announced_are_gone(folder: BlobFolder) -> None:
    with pytest.raises(BlobRefusedError, match="not those of its digest"):
        bring(folder, CONTENT + b"x")
    assert folder.offset(SITE, DIGEST) == (0, False)


def test_a_whole_blob_is_not_written_to(folder: BlobFolder) -> None:
    bring(folder)
    with pytest.raises(BlobRefusedError):
        folder.open_part(SITE, DIGEST, offset=len(CONTENT), size_bytes=1)


def test_no_more_than_the_limit(folder: BlobFolder) -> None:
    with pytest.raises(BlobRefusedError, match="larger"):
        folder.open_part(SITE, DIGEST, offset=0, size_bytes=1001)


def test_a_site_cannot_fill_the_disk_with_many(folder: BlobFolder) -> None:
    for number in range(2):
        folder.open_part(SITE, Digest(f"{number:064x}"), offset=0, size_bytes=1)
    with pytest.raises(BlobRefusedError, match="too many"):
        folder.open_part(SITE, DIGEST, offset=0, size_bytes=1)
    folder.open_part(OTHER, DIGEST, offset=0, size_bytes=1)  # another site may
    folder.clear(SITE)
    folder.open_part(SITE, DIGEST, offset=0, size_bytes=1)


def test_a_sites_blobs_are_its_own(folder: BlobFolder) -> None:
    bring(folder)
    assert folder.offset(OTHER, DIGEST) == (0, False)
    folder.remove(SITE, DIGEST)
    assert folder.offset(SITE, DIGEST) == (0, False)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../x", "a\0b", "x" * 101])
def test_a_site_is_no_path(folder: BlobFolder, name: str) -> None:
    with pytest.raises(BlobRefusedError):
        folder.up(SiteId(name), DIGEST)


@pytest.mark.parametrize("digest", ["", "..", "A" * 64, "0" * 63, "../" + "0" * 61])
def test_a_digest_is_no_path(folder: BlobFolder, digest: str) -> None:
    with pytest.raises(BlobRefusedError):
        folder.down(Digest(digest))
    with pytest.raises(BlobRefusedError):
        folder.up(SITE, Digest(digest))
