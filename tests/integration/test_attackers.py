"""What stock Flower lets in, tried against it and against ours: there it works, here it does not.

Everything is on loopback. The stranger has what the outside world may have, the server's
certificate; the neighbour is a hospital of the same consortium with keys of its own.
"""

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, StartRunRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode import node_auth_http_interceptor
from network import free_port
from serving import HOST, NEIGHBOUR, SITE, Server, serving

from fedvol.errors import LinkDownError, NotAdmittedError, SiteRegistrationError
from fedvol.identity import Authority, NodeKey, client_context
from fedvol.transport.network.bundle import thin_bundle
from fedvol.transport.network.fleet_connection import FleetConnection
from fedvol.transport.network.superlink_engine import (
    SERVER_APP_TASK,
    Fab,
    RuntimeVersionHttpInterceptor,
    fab_to_proto,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Address of a SuperLink as Flower ships it; no secret is needed unless one is given."""
    port = free_port()
    command = Path(sys.executable).with_name("flower-superlink")
    words = ["--insecure", "--host", HOST, "--port", str(port)]
    log = (tmp_path_factory.mktemp("stock") / "log").open("wb")
    with (
        log,
        subprocess.Popen(
            [command, *words, "--isolation", "process"], stdout=log, stderr=log
        ) as process,
    ):
        deadline_s = time.monotonic() + 120
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    break
            assert process.poll() is None, "the stock SuperLink does not start"
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        yield f"{HOST}:{port}"
        process.terminate()


def control(address: str) -> ControlHttpClient:
    return ControlHttpClient.from_server_address(address, True, None, interceptors=[])


def runtime(address: str) -> RuntimeHttpClient:
    version = RuntimeVersionHttpInterceptor(component_name="SuperExec")
    return RuntimeHttpClient.from_server_address(address, True, None, interceptors=[version])


def own_node() -> bytes:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def start_request() -> StartRunRequest:
    bundle = thin_bundle()
    return StartRunRequest(fab=fab_to_proto(Fab(bundle.digest, bundle.content, {})))


# --- a stranger registers a node, starts a run, takes the coordinator's place -------------------


def test_stock_lets_a_stranger_register_and_start_and_be_the_coordinator(stock: str) -> None:
    with control(stock) as client:
        client.RegisterNode(RegisterNodeRequest(public_key=own_node(), name="stranger"))
        assert len(client.ListNodes(ListNodesRequest()).nodes_info) == 1
        run = client.StartRun(start_request()).run_id
        assert run
    with runtime(stock) as coordinator:
        asked = AcquireTaskRequest(supported_task_types=[SERVER_APP_TASK])
        assert coordinator.AcquireTask(asked).token, "whoever asks conducts the run"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/register-node",
        "/v1/control/start-run",
        "/v1/control/list-nodes",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/get-fab",
        "/fedvol/operator/v1/runs",
    ],
)
def test_ours_has_none_of_these_routes_in_public(server: Server, path: str) -> None:
    assert server.post(path, content=b"").status_code == 404


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/v1/responses"])
def test_ours_shows_nothing_of_itself(server: Server, path: str) -> None:
    with httpx.Client(verify=server.tls) as client:
        answer = client.get(f"https://{HOST}:{server.public}{path}")
    assert (answer.status_code, answer.content) == (404, b"")
    assert "server" not in answer.headers


def test_ours_wants_its_secret_on_the_private_port_too(server: Server) -> None:
    address = f"{HOST}:{server.private}"
    for attack in (
        lambda client: client.RegisterNode(RegisterNodeRequest(public_key=own_node())),
        lambda client: client.StartRun(start_request()),
        lambda client: client.ListNodes(ListNodesRequest()),
    ):
        with control(address) as client, pytest.raises(httpx.HTTPStatusError) as refused:
            attack(client)
        assert refused.value.response.status_code == 401
    with runtime(address) as client, pytest.raises(httpx.HTTPStatusError) as refused:
        client.AcquireTask(AcquireTaskRequest(supported_task_types=[SERVER_APP_TASK]))
    assert refused.value.response.status_code == 401


# --- a stranger says it is a site ---------------------------------------------------------------


def test_a_stranger_with_the_certificate_alone_is_not_let_in(server: Server) -> None:
    connection = server.connect(NodeKey(ec.generate_private_key(ec.SECP384R1())))
    with closing(connection), pytest.raises(NotAdmittedError):
        connection.activate()


def test_a_site_that_was_taken_out_is_let_in_no_more_and_may_come_back(server: Server) -> None:
    keys = {site: key.public for site, key in server.nodes.items()}
    with closing(server.connect(server.nodes[NEIGHBOUR])) as removed:
        node = removed.activate()
        server.door.set_sites({SITE: keys[SITE]})
        for call in (
            lambda: removed.heartbeat(node),
            lambda: removed.pull(node),
            lambda: removed.bundle_of(node, 1),
            removed.activate,
        ):
            with pytest.raises(NotAdmittedError):
                call()
        server.door.set_sites(keys)
        assert removed.heartbeat(node)
        removed.deactivate(node)


def test_a_key_that_was_replaced_does_not_come_back_and_keeps_nobody_else_out(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    with serving(folder) as server:
        keys = {site: key.public for site, key in server.nodes.items()}
        fresh = NodeKey.create(tmp_path / "fresh.pem")
        server.door.set_sites({**keys, NEIGHBOUR: fresh.public})
        with pytest.raises(SiteRegistrationError, match=NEIGHBOUR):
            server.door.set_sites(keys)
        with closing(server.connect(server.nodes[SITE])) as site:
            site.deactivate(site.activate())
        for key in (fresh, server.nodes[NEIGHBOUR]):
            with closing(server.connect(key)) as refused, pytest.raises(NotAdmittedError):
                refused.activate()
        with pytest.raises(SiteRegistrationError, match="one node key"):
            server.door.set_sites({SITE: keys[SITE], NEIGHBOUR: keys[SITE]})


def test_a_site_cannot_speak_for_its_neighbour(server: Server) -> None:
    """Flower binds a call to the node's key: another's number is refused."""
    with (
        closing(server.connect(server.nodes[SITE])) as site,
        closing(server.connect(server.nodes[NEIGHBOUR])) as neighbour,
    ):
        node = site.activate()
        for call in (
            lambda: neighbour.heartbeat(node),
            lambda: neighbour.pull(node),
            lambda: neighbour.deactivate(node),
        ):
            with pytest.raises(NotAdmittedError):
                call()
        assert site.heartbeat(node)
        site.deactivate(node)


def test_another_server_is_not_spoken_to(server: Server, tmp_path: Path) -> None:
    """A site trusts its consortium's authority and nobody else's."""
    now = datetime.now(UTC)
    other = Authority.create(tmp_path / "other.pem", consortium="other", now=now)
    connection = FleetConnection(
        f"{HOST}:{server.public}",
        tls=client_context(other.certificate_pem),
        key=server.nodes[SITE],
        heartbeat_s=10.0,
    )
    with closing(connection), pytest.raises(LinkDownError):
        connection.activate()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, None])
def test_nothing_but_tls_1_3_in_public(server: Server, version: ssl.TLSVersion | None) -> None:
    with socket.create_connection((HOST, server.public), timeout=10) as plain:
        if version is None:
            plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not plain.recv(100).startswith(b"HTTP/1.1 200")
            return
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.maximum_version = version
        with pytest.raises(ssl.SSLError):
            old.wrap_socket(plain)


@pytest.mark.parametrize("minutes", [-6, -4, 4, 6])
def test_a_clock_may_be_wrong_by_five_minutes(
    server: Server, minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ahead or behind, as on our own routes; Flower by itself refuses one that is 6 s ahead."""
    away = timedelta(minutes=minutes)
    monkeypatch.setattr(node_auth_http_interceptor, "now", lambda: datetime.now(UTC) + away)
    with closing(server.connect(server.nodes[NEIGHBOUR])) as site:
        if abs(minutes) > 5:
            with pytest.raises(NotAdmittedError):
                site.activate()
        else:
            site.deactivate(site.activate())
