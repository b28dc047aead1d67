"""`FrontDoor`: the server's two ports. Public, with TLS 1.3: what sites need. Private: the rest."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from fedvol.errors import StoreError
from fedvol.files import atomic_path
from fedvol.identity import NodePublicKey
from fedvol.transport.network.blob_folder import BlobFolder
from fedvol.transport.network.blob_routes import blob_routes
from fedvol.transport.network.calls import CallGuard, SiteKeys
from fedvol.transport.network.listeners import Certificate, Listener
from fedvol.transport.network.public_gate import PublicGate
from fedvol.transport.network.superlink import MIN_SECRET_BYTES, SuperLink, SuperLinkSettings
from fedvol.types import SiteId

MAX_BLOB_BYTES = 8 << 30
"""Largest file of weights that a site may bring, whatever the run."""

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFolder:
    """What lies where in the server's state folder.

    Attributes:
        folder: The folder.
    """

    folder: Path

    @property
    def engine(self) -> Path:
        """Nodes and messages of the engine."""
        return self.folder / "flower.db"

    @property
    def store(self) -> Path:
        """Runs, rounds, sites' results."""
        return self.folder / "server.db"

    @property
    def exchange(self) -> Path:
        """Weights on their way."""
        return self.folder / "exchange"

    def blobs(self, run: str) -> Path:
        """Weights of a run."""
        return self.folder / "blobs" / run

    def secret(self) -> bytes:
        """What the coordinator proves itself by to the engine; made where it is absent.

        Raises:
            StoreError: The file is open to others, or damaged.
        """
        path = self.folder / "secret"
        if not path.exists():
            with atomic_path(path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_bytes(secrets.token_bytes(MIN_SECRET_BYTES))
        content = path.read_bytes()
        if len(content) != MIN_SECRET_BYTES or path.stat().st_mode & 0o077:
            raise StoreError(
                str(path),
                "the server's secret is damaged, or others can read it",
                "Remove the file; the server makes another when it starts.",
            )
        return content


@final
class FrontDoor:
    """The engine and our own routes, listening.

    Args:
        folder: The server's state folder.
        sites: Identities of the active sites.
        routes: Further routes of ours under `/fedvol/v1/`.
    """

    def __init__(
        self, folder: ServerFolder, *, sites: SiteKeys, routes: Sequence[BaseRoute] = ()
    ) -> None:
        self.superlink = SuperLink(
            SuperLinkSettings(database=folder.engine, secret=folder.secret())
        )
        blobs = BlobFolder(folder.exchange, max_bytes=MAX_BLOB_BYTES)
        guard = CallGuard(sites)
        self._own = Starlette(routes=[*blob_routes(blobs, guard), *routes])
        self._listeners: list[Listener] = []

    def set_sites(self, nodes: Mapping[SiteId, NodePublicKey]) -> None:
        """Let exactly these sites connect.

        Raises:
            SiteRegistrationError: A key is another site's, or was replaced before.
        """
        self.superlink.set_sites({site: key.pem for site, key in nodes.items()})

    def open_private(self, *, port: int) -> int:
        """Listen on the loopback address, for the coordinator and operators of this machine.

        Returns:
            The port.

        Raises:
            LinkDownError: The port is in use.
        """
        return self._open(
            Listener(
                self.superlink.app,
                host=LOOPBACK,
                port=port,
                certificate=None,
                runs_lifespan=True,
            )
        )

    def open_public(self, *, host: str, port: int, certificate: Certificate) -> int:
        """Listen for sites.

        Returns:
            The port.

        Raises:
            LinkDownError: The address is not this machine's, or the port is in use.
        """
        return self._open(
            Listener(
                PublicGate(self.superlink.app, self._own, admits=self.superlink.admits),
                host=host,
                port=port,
                certificate=certificate,
                runs_lifespan=False,
            )
        )

    def close(self) -> None:
        """Stop listening, the public port first."""
        while self._listeners:
            self._listeners.pop().stop()

    def _open(self, listener: Listener) -> int:
        port = listener.start()
        self._listeners.append(listener)
        return port
