"""A server of ours, listening on loopback with TLS, and two sites that may call it."""

import ssl
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from fedvol.identity import Authority, IdentityKey, NodeKey, PublicKey, client_context
from fedvol.server.front_door import FrontDoor, ServerFolder
from fedvol.server.refusals import Refusals
from fedvol.transport.network.fleet_connection import FleetConnection
from fedvol.transport.network.listeners import Certificate
from fedvol.types import SiteId

HOST = "127.0.0.1"
SITE, NEIGHBOUR = SiteId("site_a"), SiteId("site_b")


@dataclass(frozen=True, kw_only=True)
class Server:
    """Ours, with two sites.

    Attributes:
        folder: Its state folder.
        public: Its public port.
        private: Its private port.
        tls: What everybody may know: whom to trust.
        nodes: Node keys of the sites.
        identities: Their identities.
        door: The server itself.
    """

    folder: Path
    public: int
    private: int
    tls: ssl.SSLContext
    nodes: Mapping[SiteId, NodeKey]
    identities: Mapping[SiteId, IdentityKey]
    door: FrontDoor

    def connect(self, key: NodeKey) -> FleetConnection:
        return FleetConnection(f"{HOST}:{self.public}", tls=self.tls, key=key, heartbeat_s=10.0)

    def post(self, path: str, **options) -> httpx.Response:
        url = f"https://{HOST}:{self.public}{path}"
        with httpx.Client(verify=self.tls) as client:
            return client.post(url, **options)


class Roster:
    """Who may call our own routes."""

    def __init__(self, identities: Mapping[SiteId, IdentityKey]) -> None:
        self.identities = identities

    def identity(self, site: SiteId) -> PublicKey | None:
        key = self.identities.get(site)
        return key.public if key else None


@contextmanager
def serving(folder: Path, *, refusals: Refusals | None = None) -> Generator[Server]:
    """Make keys and certificates in a folder, and listen."""
    now = datetime.now(UTC)
    authority = Authority.create(folder / "authority.pem", consortium="test", now=now)
    authority.issue(folder / "tls.pem", hosts=[HOST], now=now)
    nodes = {site: NodeKey.create(folder / f"{site}.node") for site in (SITE, NEIGHBOUR)}
    identities = {site: IdentityKey.generate() for site in nodes}
    door = FrontDoor(ServerFolder(folder=folder), sites=Roster(identities), refusals=refusals)
    door.set_sites({site: key.public for site, key in nodes.items()})
    private = door.open_private(port=0)
    tls = folder / "tls.pem"
    public = door.open_public(host=HOST, port=0, certificate=Certificate(chain=tls, key=tls))
    try:
        yield Server(
            folder=folder,
            public=public,
            private=private,
            tls=client_context(authority.certificate_pem),
            nodes=nodes,
            identities=identities,
            door=door,
        )
    finally:
        door.close()
