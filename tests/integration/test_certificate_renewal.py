"""`fedvol server renew`: hospitals keep the kit they have, and the server does not restart."""

import hashlib
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from server_parties import Consortium, invitation_line, make_consortium
from starlette.applications import Starlette
from tiny import Events

from fedvol.cli.main import main
from fedvol.errors import CertificateError
from fedvol.identity import Authority, Invitation, client_context
from fedvol.server.renewing import CertificateWatch
from fedvol.server.server_state import ServerState
from fedvol.transport.network.listeners import Listener

HOST = "127.0.0.1"
NOW = datetime.now(UTC)


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return make_consortium(tmp_path / "consortium")


@pytest.fixture
def state(consortium: Consortium) -> Iterator[ServerState]:
    state = ServerState.open(consortium.folder)
    yield state
    state.close()


@pytest.fixture
def kit(state: ServerState) -> ssl.SSLContext:
    """What a hospital trusts by its invitation, once and for all."""
    return client_context(Invitation.parse(invitation_line(state, "north")).authority_pem)


def age(state: ServerState, *, days: int) -> None:
    """The certificate as it is after so many days."""
    authority = Authority.load(state.folder.authority)
    authority.renew(state.folder.certificate, hosts=[HOST], now=NOW - timedelta(days=days))


def listener(state: ServerState) -> Listener:
    return Listener(
        Starlette(), host=HOST, port=0, certificate=state.certificate, runs_lifespan=False
    )


def shown(port: int, kit: ssl.SSLContext) -> str:
    """Digest of the certificate that a hospital is shown, and accepts."""
    with (
        closing(socket.create_connection((HOST, port), timeout=30)) as bare,
        closing(kit.wrap_socket(bare, server_hostname=HOST)) as link,
    ):
        return hashlib.sha256(link.getpeercert(binary_form=True) or b"").hexdigest()


def renew(state: ServerState, capsys: pytest.CaptureFixture[str]) -> datetime:
    assert main(["server", "renew", str(state.folder.folder), "--json"]) == 0
    return datetime.fromisoformat(json.loads(capsys.readouterr().out)["certificate_until"])


def test_a_server_whose_certificate_ended_goes_on_after_one_command(
    state: ServerState, kit: ssl.SSLContext, capsys: pytest.CaptureFixture[str]
) -> None:
    age(state, days=398)
    with pytest.raises(CertificateError, match="expired") as caught:
        state.require_certificate()
    assert "fedvol server renew" in caught.value.fix
    old = listener(state)
    port = old.start()
    try:
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            shown(port, kit)
    finally:
        old.stop()
    assert (renew(state, capsys) - NOW).days in (396, 397)
    new = listener(state)
    port = new.start()
    try:
        assert shown(port, kit)
    finally:
        new.stop()


def test_a_running_server_serves_the_new_one_without_a_restart(
    state: ServerState, kit: ssl.SSLContext, capsys: pytest.CaptureFixture[str]
) -> None:
    serving, events = listener(state), Events()
    watch = CertificateWatch(state, serve=serving.renew, observer=events)
    port = serving.start()
    try:
        first = shown(port, kit)
        watch.look()
        assert events.seen == []
        renew(state, capsys)
        watch.look()
        second = shown(port, kit)
        assert second != first
        assert len(events.named("certificate.renewed")) == 1
        # What sites would not accept is not served.
        authority = Authority.load(state.folder.authority)
        authority.renew(state.folder.certificate, hosts=["elsewhere.example.org"], now=NOW)
        for _ in range(2):
            watch.look()
        assert len(events.named("certificate.failed")) == 1
        assert shown(port, kit) == second
        state.folder.certificate.unlink()
        for _ in range(2):
            watch.look()
        assert len(events.named("certificate.failed")) == 2
        renew(state, capsys)  # a lost one is made anew
        watch.look()
        assert shown(port, kit) not in (first, second)
    finally:
        serving.stop()


def test_an_operators_own_certificate_is_theirs_to_renew(
    state: ServerState, capsys: pytest.CaptureFixture[str]
) -> None:
    text = state.folder.config.read_text()
    files = 'certificate = { kind = "files", chain = "c.pem", key = "k.pem", authority = "a.pem" }'
    state.folder.config.write_text(text.replace("[listen]", f"{files}\n\n[listen]"))
    assert main(["server", "renew", str(state.folder.folder)]) == 2
    assert "Put the new files in their place" in capsys.readouterr().err
