"""Every call of a site goes through the proxy that `site.toml` names, with its password."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest
from connect_proxy import ConnectProxy
from hospital import SITE, Server, add_to_config, joined

from fedvol.errors import BlobRefusedError, LinkDownError
from fedvol.identity import NodeKey, client_context
from fedvol.site import SiteFolder
from fedvol.transport.network.blob_client import BlobClient
from fedvol.transport.network.fleet_connection import FleetConnection
from fedvol.transport.network.site_calls import SiteCalls
from fedvol.types import Digest


@pytest.fixture
def server(tmp_path: Path) -> Generator[Server]:
    with Server(folder=tmp_path / "server").listening() as server:
        yield server


@pytest.fixture
def proxy() -> Generator[ConnectProxy]:
    with ConnectProxy(credentials="site:p@ss word").listening() as proxy:
        yield proxy


@pytest.fixture
def held(tmp_path: Path, server: Server, proxy: ConnectProxy) -> SiteFolder:
    folder = joined(tmp_path / "site", server)
    add_to_config(
        folder,
        f'\n[link]\nproxy = "http://127.0.0.1:{proxy.port}"\nproxy_credentials = "keys/proxy"\n',
    )
    folder.write(folder.folder / "keys" / "proxy", b"site:p@ss word\n")
    return folder


def test_our_own_calls(held: SiteFolder, server: Server, proxy: ConnectProxy) -> None:
    config = held.config()
    calls = SiteCalls(
        config.server,
        tls=client_context(held.authority_pem()),
        key=held.identity(),
        site=SITE,
        proxy=held.proxy_url(config),
    )
    with closing(calls):
        assert calls.proposals() == ()
    assert proxy.opened == [server.address]


def test_weights(held: SiteFolder, server: Server, proxy: ConnectProxy, tmp_path: Path) -> None:
    config = held.config()
    blobs = BlobClient(
        config.server,
        tls=client_context(held.authority_pem()),
        key=held.identity(),
        site=SITE,
        proxy=held.proxy_url(config),
    )
    with closing(blobs), pytest.raises(BlobRefusedError, match="404"):
        blobs.fetch(Digest("0" * 64), size_bytes=1, target=tmp_path / "blob")
    assert proxy.opened == [server.address]


def test_the_node(held: SiteFolder, server: Server, proxy: ConnectProxy) -> None:
    config = held.config()
    connection = FleetConnection(
        config.server,
        tls=client_context(held.authority_pem()),
        key=NodeKey.load(held.node_file),
        heartbeat_s=10.0,
        proxy=held.proxy_url(config),
    )
    with closing(connection), pytest.raises(LinkDownError, match="404"):
        connection.activate()
    assert proxy.opened == [server.address]


def test_a_wrong_password(held: SiteFolder, proxy: ConnectProxy) -> None:
    held.write(held.folder / "keys" / "proxy", b"site:wrong\n")
    config = held.config()
    calls = SiteCalls(
        config.server,
        tls=client_context(held.authority_pem()),
        key=held.identity(),
        site=SITE,
        proxy=held.proxy_url(config),
    )
    with closing(calls), pytest.raises(LinkDownError, match="ProxyError"):
        calls.proposals()
    assert proxy.opened == []
