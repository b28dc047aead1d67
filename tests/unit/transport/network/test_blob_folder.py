"""Weights on their way, at the server."""

import hashlib
from pathlib import Path

import pytest

from fedvol.errors import BlobElsewhereError, BlobRefusedError
from fedvol.transport.network.blob_folder import BlobFolder
from fedvol.types import Digest, SiteId

SITE, OTHER = SiteId("site_a"), SiteId("site_b")
CONTENT = b"weights" * 100
DIGEST = Digest(hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def folder(tmp_path: Path) -> BlobFolder:
    folder = BlobFolder(tmp_path)
    for site in (SITE, OTHER):
        folder.expect(site, max_bytes=1000)
    return folder


def append(
    folder: BlobFolder,
    content: bytes,
    *,
    site: SiteId = SITE,
    digest: Digest = DIGEST,
    offset: int = 0,
) -> None:
    with folder.appending(site, digest, offset=offset, size_bytes=len(content)) as file:
        file.write(content)


def bring(folder: BlobFolder, content: bytes = CONTENT, digest: Digest = DIGEST) -> None:
    append(folder, content, digest=digest)
    folder.close_part(SITE, digest)


def test_parts_make_a_whole(folder: BlobFolder) -> None:
    assert folder.offset(SITE, DIGEST) == (0, False)
    append(folder, CONTENT[:300])
    assert folder.offset(SITE, DIGEST) == (300, False)
    append(folder, CONTENT[300:], offset=300)
    folder.close_part(SITE, DIGEST)
    assert folder.offset(SITE, DIGEST) == (700, True)
    assert folder.up(SITE, DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("offset", [1, 299, 301])
def test_bytes_follow_those_that_are_there(folder: BlobFolder, offset: int) -> None:
    append(folder, CONTENT[:300])
    with pytest.raises(BlobElsewhereError, match="do not follow"):
        append(folder, b"x" * 10, offset=offset)


def test_one_call_at_a_time_brings_bytes(folder: BlobFolder) -> None:
    """A call that hangs in a proxy may end long after the site has tried again."""
    with folder.appending(SITE, DIGEST, offset=0, size_bytes=700) as file:
        file.write(CONTENT[:300])
        assert folder.offset(SITE, DIGEST) == (300, False)
        with pytest.raises(BlobElsewhereError, match="still bringing"):
            append(folder, CONTENT[300:], offset=300)
        file.write(CONTENT[300:])
    folder.close_part(SITE, DIGEST)
    assert folder.up(SITE, DIGEST).read_bytes() == CONTENT


def test_other_bytes_than_announced_are_gone(folder: BlobFolder) -> None:
    with pytest.raises(BlobRefusedError, match="not those of its digest"):
        bring(folder, CONTENT + b"x")
    assert folder.offset(SITE, DIGEST) == (0, False)


def test_a_whole_blob_is_not_written_to(folder: BlobFolder) -> None:
    bring(folder)
    with pytest.raises(BlobRefusedError):
        append(folder, b"x", offset=len(CONTENT))


def test_no_more_than_the_limit(folder: BlobFolder) -> None:
    with pytest.raises(BlobRefusedError, match="larger"):
        append(folder, b"x" * 1001)


def test_a_site_cannot_fill_the_disk(folder: BlobFolder) -> None:
    for number in range(2):
        append(folder, b"x", digest=Digest(f"{number:064x}"))
    with pytest.raises(BlobRefusedError, match="too many"):
        append(folder, b"x")
    append(folder, b"x", site=OTHER)  # another site may
    folder.expect(SITE, max_bytes=1)
    append(folder, b"x")
    with pytest.raises(BlobRefusedError, match="larger"):
        append(folder, b"x", offset=1)


def test_a_site_that_was_not_asked_brings_nothing(folder: BlobFolder) -> None:
    with pytest.raises(BlobRefusedError, match="larger than anything that was asked for"):
        append(folder, b"x", site=SiteId("stranger"))


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
