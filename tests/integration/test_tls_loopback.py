"""Real handshakes on loopback: the right authority, name, time and version, or no connection."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from consortium import NAME

from fedvol.identity import Authority, client_context, server_context

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
HOST = "127.0.0.1"
SAID = b"pong"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "authority.pem", consortium=NAME, now=NOW - 90 * DAY)


@pytest.fixture
def context(authority: Authority, tmp_path: Path) -> ssl.SSLContext:
    authority.issue(tmp_path / "tls.pem", hosts=(HOST,), now=NOW)
    return server_context(tmp_path / "tls.pem")


@contextlib.contextmanager
def _listening(context: ssl.SSLContext) -> Generator[int]:
    """Answers connections one by one with `SAID`; a client that turns away does no harm."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    raw, _ = listener.accept()
                except OSError:  # closed: the test is over
                    return
                with raw, contextlib.suppress(OSError):
                    raw.settimeout(30)
                    with context.wrap_socket(raw, server_side=True) as link:
                        link.sendall(SAID)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _call(port: int, context: ssl.SSLContext, *, name: str = HOST) -> tuple[bytes, str | None]:
    with (
        socket.create_connection((HOST, port), timeout=30) as raw,
        context.wrap_socket(raw, server_hostname=name) as link,
    ):
        return link.recv(len(SAID)), link.version()


def test_who_trusts_the_authority_is_served(authority: Authority, context: ssl.SSLContext) -> None:
    with _listening(context) as port:
        assert _call(port, client_context(authority.certificate_pem)) == (SAID, "TLSv1.3")


def test_who_trusts_another_authority_turns_away(context: ssl.SSLContext, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other.pem", consortium=NAME, now=NOW)
    with _listening(context) as port, pytest.raises(ssl.SSLCertVerificationError):
        _call(port, client_context(other.certificate_pem))


@pytest.mark.parametrize("name", ["localhost", "127.0.0.2", "server.example.org"])
def test_who_wants_another_host_turns_away(
    name: str, authority: Authority, context: ssl.SSLContext
) -> None:
    client = client_context(authority.certificate_pem)
    with _listening(context) as port, pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        _call(port, client, name=name)


def test_an_expired_certificate_is_refused_and_its_renewal_taken_without_a_restart(
    authority: Authority, tmp_path: Path
) -> None:
    path = tmp_path / "tls.pem"
    authority.issue(path, hosts=(HOST,), now=NOW - 60 * DAY, days=30)
    context, client = server_context(path), client_context(authority.certificate_pem)
    with _listening(context) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            _call(port, client)
        authority.renew(path, hosts=(HOST,), now=NOW)
        context.load_cert_chain(path)
        assert _call(port, client) == (SAID, "TLSv1.3")


def test_a_client_of_tls_1_2_is_refused(authority: Authority, context: ssl.SSLContext) -> None:
    old = client_context(authority.certificate_pem)
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with _listening(context) as port:
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            _call(port, old)
        assert _call(port, client_context(authority.certificate_pem)) == (SAID, "TLSv1.3")


def test_a_server_of_tls_1_2_is_refused(authority: Authority, context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with _listening(context) as port, pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        _call(port, client_context(authority.certificate_pem))


def test_an_open_connection_is_refused(context: ssl.SSLContext) -> None:
    with _listening(context) as port, socket.create_connection((HOST, port), timeout=30) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = raw.recv(1024)
        assert SAID not in answer
