"""Weights over TLS: resumed where a link was cut, and nobody's but their site's."""

import hashlib
import os
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from serving import HOST, NEIGHBOUR, SITE, Server, serving

from fedvol.errors import BlobRefusedError, LinkDownError, NotAdmittedError
from fedvol.identity import IdentityKey
from fedvol.transport.network.blob_client import BlobClient
from fedvol.transport.network.blob_folder import BlobFolder
from fedvol.types import Digest, SiteId

CONTENT = os.urandom(10_500)
DIGEST = Digest(hashlib.sha256(CONTENT).hexdigest())
PIECE = 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def folder(server: Server) -> Generator[BlobFolder]:
    folder = BlobFolder(server.folder / "exchange")
    for site in (SITE, NEIGHBOUR):
        folder.expect(site, max_bytes=1 << 20)
    yield folder
    for site in (SITE, NEIGHBOUR):
        folder.clear(site)
    folder.down(DIGEST).unlink(missing_ok=True)


def client_of(
    server: Server, *, site: SiteId = SITE, key: IdentityKey | None = None, cut_after: int = 0
) -> tuple[BlobClient, list[httpx.Request]]:
    """A client, and its calls; the link is cut at the call after `cut_after`."""
    client = BlobClient(
        f"{HOST}:{server.public}",
        tls=server.tls,
        key=key or server.identities[site],
        site=site,
        piece_bytes=PIECE,
    )
    calls: list[httpx.Request] = []

    def watch(request: httpx.Request) -> None:
        calls.append(request)
        if cut_after and len(calls) > cut_after:
            raise httpx.ConnectError("cut", request=request)

    client._client.event_hooks["request"] = [watch]
    return client, calls


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    return path


def test_brought_whole(server: Server, folder: BlobFolder, path: Path) -> None:
    client, calls = client_of(server)
    with closing(client):
        client.bring(path, digest=DIGEST)
        assert folder.up(SITE, DIGEST).read_bytes() == CONTENT
        assert len(calls) == 1 + 11
        client.bring(path, digest=DIGEST)
        assert len(calls) == 1 + 11 + 1, "what is there is not brought again"


@pytest.mark.parametrize("cut_after", [1, 2, 5, 11])
def test_brought_on_from_where_the_link_was_cut(
    server: Server, folder: BlobFolder, path: Path, cut_after: int
) -> None:
    client, _ = client_of(server, cut_after=cut_after)
    with closing(client), pytest.raises(LinkDownError):
        client.bring(path, digest=DIGEST)
    assert not folder.up(SITE, DIGEST).exists()
    client, calls = client_of(server)
    with closing(client):
        client.bring(path, digest=DIGEST)
    assert folder.up(SITE, DIGEST).read_bytes() == CONTENT
    assert len(calls) == 1 + 11 - (cut_after - 1)


def test_a_piece_that_is_cut_in_its_midst_keeps_what_came(
    server: Server, folder: BlobFolder, path: Path
) -> None:
    with folder.appending(SITE, DIGEST, offset=0, size_bytes=1000) as file:
        file.write(CONTENT[:700])
    client, _ = client_of(server)
    with closing(client):
        client.bring(path, digest=DIGEST)
    assert folder.up(SITE, DIGEST).read_bytes() == CONTENT


def test_fetched_whole_and_on_from_where_the_link_was_cut(
    server: Server, folder: BlobFolder, tmp_path: Path
) -> None:
    source = folder.down(DIGEST)
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(CONTENT)
    target = tmp_path / "down" / f"{DIGEST}.safetensors"
    client, calls = client_of(server)
    with closing(client):
        client.fetch(DIGEST, size_bytes=len(CONTENT), target=target)
        assert target.read_bytes() == CONTENT
        client.fetch(DIGEST, size_bytes=len(CONTENT), target=target)
        assert len(calls) == 1, "what is there is not fetched again"
        target.replace(target.with_suffix(".part"))
        with target.with_suffix(".part").open("r+b") as file:
            file.truncate(6000)
        client.fetch(DIGEST, size_bytes=len(CONTENT), target=target)
    assert calls[-1].headers["range"] == "bytes=6000-"
    assert target.read_bytes() == CONTENT


def test_other_weights_than_named_are_not_taken(
    server: Server, folder: BlobFolder, tmp_path: Path
) -> None:
    source = folder.down(DIGEST)
    source.parent.mkdir(parents=True, exist_ok=True)
    target = tmp_path / f"{DIGEST}.safetensors"
    client, _ = client_of(server)
    with closing(client):
        for content in (CONTENT[:-1] + b"x", CONTENT[:-1], CONTENT + b"x"):
            source.write_bytes(content)
            with pytest.raises(BlobRefusedError):
                client.fetch(DIGEST, size_bytes=len(CONTENT), target=target)
            assert not target.exists()
            target.with_suffix(".part").unlink(missing_ok=True)
        source.unlink()
        with pytest.raises(BlobRefusedError):
            client.fetch(DIGEST, size_bytes=len(CONTENT), target=target)


def test_other_weights_than_announced_are_not_kept(
    server: Server, folder: BlobFolder, path: Path
) -> None:
    path.write_bytes(CONTENT[:-1] + b"x")
    client, _ = client_of(server)
    with closing(client), pytest.raises(BlobRefusedError):
        client.bring(path, digest=DIGEST)
    assert folder.offset(SITE, DIGEST) == (0, False)


def test_under_another_key_or_name_nothing_is_carried(
    server: Server, folder: BlobFolder, path: Path, tmp_path: Path
) -> None:
    for site, key in (
        (SITE, IdentityKey.generate()),
        (SITE, server.identities[NEIGHBOUR]),
        (SiteId("stranger"), server.identities[SITE]),
    ):
        client, _ = client_of(server, site=site, key=key)
        with closing(client):
            with pytest.raises(NotAdmittedError):
                client.bring(path, digest=DIGEST)
            with pytest.raises(NotAdmittedError):
                client.fetch(DIGEST, size_bytes=1, target=tmp_path / "x.safetensors")
    assert folder.offset(SITE, DIGEST) == (0, False)
