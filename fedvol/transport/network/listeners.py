"""The server's two listeners: one public with TLS 1.3, one private on the loopback address."""

import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

import uvicorn

from fedvol.errors import CertificateError, LinkDownError
from fedvol.transport.network.public_gate import Asgi

_READY_S = 30.0
_STEP_S = 0.02
_FAREWELL_S = 1.0
"""Seconds that a caller has to close a connection on which nothing is under way."""
_GRACE_S = 10
"""Seconds in which what is under way may be answered when a listener stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Files of a TLS certificate.

    Attributes:
        chain: PEM of the certificate and what leads to its root.
        key: PEM of its private key.
    """

    chain: Path
    key: Path


@final
class Listener:
    """One HTTP listener in a thread of its own.

    Args:
        app: What it serves.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        certificate: For TLS 1.3; None: plain, which is for the loopback address alone.
        runs_lifespan: Whether it starts and ends the app; one listener of an app does.
    """

    def __init__(
        self,
        app: Asgi,
        *,
        host: str,
        port: int,
        certificate: Certificate | None,
        runs_lifespan: bool,
    ) -> None:
        if certificate is None and host not in ("127.0.0.1", "::1"):
            raise ValueError("a listener without TLS is for the loopback address alone")
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            ssl_certfile=str(certificate.chain) if certificate else None,
            ssl_keyfile=str(certificate.key) if certificate else None,
            lifespan="on" if runs_lifespan else "off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a caller would say by itself which address it has
            timeout_graceful_shutdown=2 * _GRACE_S,
            date_header=True,  # by which a site sees that its clock is wrong
        )
        config.load()
        self._certificate, self._tls = certificate, config.ssl
        if self._tls is not None:
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self._server = uvicorn.Server(config)
        self._where = f"{host}:{port}"
        self._thread = threading.Thread(target=self._server.run, name=f"listener {self._where}")

    def start(self) -> int:
        """Start listening.

        Returns:
            The port.

        Raises:
            LinkDownError: The address is in use, or cannot be listened on.
        """
        self._thread.start()
        deadline_s = time.monotonic() + _READY_S
        while self._thread.is_alive() and not self._server.started:
            if time.monotonic() > deadline_s:
                self._server.should_exit = True
                break
            time.sleep(_STEP_S)
        if not self._server.started:
            raise LinkDownError(
                self._where,
                "the server cannot listen on this address",
                "See whether another process uses the port, and whether the address is this "
                "machine's.",
            )
        sockets = self._server.servers[0].sockets
        return int(sockets[0].getsockname()[1])

    def renew(self) -> None:
        """Read the certificate's files again, for connections from now on.

        Raises:
            ValueError: It listens without TLS.
            CertificateError: They cannot be read, or do not belong together; the old ones go on.
        """
        if self._certificate is None or self._tls is None:
            raise ValueError("a listener without TLS has no certificate")
        files = self._certificate
        try:
            self._tls.load_cert_chain(files.chain, files.key, password="")
        except OSError as error:  # that of TLS too
            raise CertificateError(
                str(files.chain),
                f"certificate or key cannot be used ({error.strerror})",
                "Put both files in place, as they belong together.",
            ) from error

    def stop(self) -> None:
        """Answer what is under way, then end; whoever is too slow is cut off."""
        self._server.should_exit = True
        # A connection under TLS closes once its caller says so too, and an idle one says nothing.
        self._thread.join(_FAREWELL_S)
        self._cut(only_closing=True)
        self._thread.join(_GRACE_S)
        self._cut(only_closing=False)
        self._thread.join()

    def _cut(self, *, only_closing: bool) -> None:
        def cut() -> None:
            for connection in list(self._server.server_state.connections):
                if connection.transport.is_closing() or not only_closing:
                    connection.transport.abort()

        if self._thread.is_alive() and self._server.servers:
            with suppress(RuntimeError):  # it ended in this moment
                self._server.servers[0].get_loop().call_soon_threadsafe(cut)
