"""`FrontDoor`: the server's two ports. Public, with TLS 1.3: what sites need. Private: the rest."""

from collections.abc import Mapping, Sequence
from typing import final

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from fedvol.identity import NodePublicKey
from fedvol.server.refusals import Refusals, is_private_refusal, is_public_refusal
from fedvol.server.server_folder import ServerFolder
from fedvol.transport.network.blob_folder import BlobFolder
from fedvol.transport.network.blob_routes import blob_routes
from fedvol.transport.network.calls import CallGuard, SiteKeys
from fedvol.transport.network.listeners import Certificate, Listener
from fedvol.transport.network.private_gate import PrivateGate
from fedvol.transport.network.public_gate import Asgi, PublicGate
from fedvol.transport.network.superlink import SuperLink, SuperLinkSettings
from fedvol.types import SiteId

LOOPBACK = "127.0.0.1"


@final
class FrontDoor:
    """The engine and our own routes, listening.

    Args:
        folder: The server's state folder.
        sites: Identities of the active sites.
        guard: Lets sites' calls through; None: one of its own, from `sites`.
        routes: Further routes of ours under `/fedvol/v1/`.
        operators: What operators of this machine reach; None: nothing.
        refusals: Counts who is turned away at either port; None: nobody does.
    """

    def __init__(
        self,
        folder: ServerFolder,
        *,
        sites: SiteKeys,
        guard: CallGuard | None = None,
        routes: Sequence[BaseRoute] = (),
        operators: Asgi | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        self.superlink = SuperLink(
            SuperLinkSettings(database=folder.engine, secret=folder.secret())
        )
        blobs = BlobFolder(folder.exchange)
        # One guard for all routes: it remembers which calls were made already.
        guard = guard or CallGuard(sites, remembered_in=folder.calls)
        own = Starlette(routes=[*blob_routes(blobs, guard), *routes])
        private = PrivateGate(self.superlink.app, operators) if operators else self.superlink.app
        public = PublicGate(self.superlink.app, own, admits=self.superlink.admits)
        self._private: Asgi = private
        self._public_app: Asgi = public
        if refusals is not None:
            self._private = refusals.watched(private, port="private", is_refusal=is_private_refusal)
            self._public_app = refusals.watched(public, port="public", is_refusal=is_public_refusal)
        self._listeners: list[Listener] = []
        self._public: Listener | None = None

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
                self._private,
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
        self._public = Listener(
            self._public_app,
            host=host,
            port=port,
            certificate=certificate,
            runs_lifespan=False,
        )
        return self._open(self._public)

    def renew_certificate(self) -> None:
        """Read the files of the public port's certificate again, for connections from now on."""
        if self._public is not None:
            self._public.renew()

    def close(self) -> None:
        """Stop listening, the public port first."""
        while self._listeners:
            self._listeners.pop().stop()

    def _open(self, listener: Listener) -> int:
        port = listener.start()
        self._listeners.append(listener)
        return port
