"""A new TLS certificate under the same authority: sites go on without a word, and no restart."""

from collections.abc import Callable
from datetime import datetime
from typing import Final, final

from fedvol.config.addresses import split_address
from fedvol.config.server import CertificateFiles
from fedvol.errors import FedvolError, UsageError
from fedvol.identity import Authority, write_moment
from fedvol.server.server_state import ServerState
from fedvol.telemetry import Observer

SOON_DAYS: Final = 30
"""Days before the end of a certificate from which on operators are told to renew it."""


def renew_certificate(state: ServerState, *, now: datetime) -> datetime:
    """Put a new key and certificate for the server's address in the place of the old.

    Args:
        state: The server's folder, read; its process may be running.
        now: The time, with its zone.

    Returns:
        When the new certificate ends.

    Raises:
        UsageError: The certificate is the operator's own.
        KeyFileError: The authority's file is absent, open to others or damaged.
        CertificateError: The authority has ended, or sites would not accept its certificate.
        StoreError: The folder cannot be written.
    """
    if isinstance(state.config.certificate, CertificateFiles):
        raise UsageError(
            "certificate",
            "server.toml names files of an authority that is not this server's",
            "Put the new files in their place; the running server takes them by itself.",
        )
    host, _ = split_address(state.config.address)
    authority = Authority.load(state.folder.authority)
    authority.renew(state.folder.certificate, hosts=[host], now=now)
    return state.require_certificate()


@final
class CertificateWatch:
    """Has a certificate served that was put in the place of the old, once sites would accept it.

    Args:
        state: The server's folder, read; its certificate is the one that is served now.
        serve: Has the files read again for new connections.
        observer: Hears of a new certificate, and of one that does not do.
    """

    def __init__(
        self, state: ServerState, *, serve: Callable[[], None], observer: Observer
    ) -> None:
        self._state = state
        self._serve = serve
        self._observer = observer
        self._seen = self._read()

    def look(self) -> None:
        """Look once; what does not do is told, once, and the old one goes on."""
        found = self._read()
        if found == self._seen:
            return
        self._seen = found
        try:
            ends = self._state.require_certificate()
            self._serve()
        except FedvolError as error:
            self._observer.event("certificate.failed", code=error.code, what=error.what)
        else:
            self._observer.event("certificate.renewed", certificate_until=write_moment(ends))

    def _read(self) -> tuple[bytes, bytes] | None:
        """Both files as they are; None where one cannot be read, of which the check tells."""
        files = self._state.certificate
        try:
            return files.chain.read_bytes(), files.key.read_bytes()
        except OSError:
            return None
