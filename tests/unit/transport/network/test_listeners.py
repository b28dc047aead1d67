"""A listener ends when it is told to, whatever its callers do."""

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fedvol.identity import Authority, client_context
from fedvol.transport.network.listeners import Certificate, Listener


@pytest.mark.timeout(60)
def test_a_caller_that_stays_does_not_hold_it(tmp_path: Path) -> None:
    async def answer(request: Request) -> Response:
        return PlainTextResponse("yes")

    now = datetime.now(UTC)
    authority = Authority.create(tmp_path / "authority.pem", consortium="test", now=now)
    tls = tmp_path / "tls.pem"
    authority.issue(tls, hosts=["127.0.0.1"], now=now)
    listener = Listener(
        Starlette(routes=[Route("/", answer)]),
        host="127.0.0.1",
        port=0,
        certificate=Certificate(chain=tls, key=tls),
        runs_lifespan=False,
    )
    port = listener.start()
    context: ssl.SSLContext = client_context(authority.certificate_pem)
    with (
        socket.create_connection(("127.0.0.1", port)) as bare,
        context.wrap_socket(bare, server_hostname="127.0.0.1") as link,
    ):
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert link.recv(1 << 16).startswith(b"HTTP/1.1 200")
        listener.stop()  # the connection is open, and nothing is under way
