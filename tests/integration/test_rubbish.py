"""A hospital whose software went mad sends rubbish at every route: all of it is refused.

It has keys of its own, so much of what it sends is signed as it should be. The server is the real
one, another hospital's node is connected all the while, and neither notices anything.
"""

import json
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from departing import AllDepart
from network import free_port
from server_parties import Consortium, Hospital, make_consortium
from tiny import Events

from fedvol.identity import Tag, client_context, sign_body
from fedvol.server.server_state import ServerState
from fedvol.server.service import serve_server
from fedvol.transport.network.blob_routes import COMPLETE, OFFSET
from fedvol.transport.network.calls import HEADER, sign_call
from fedvol.transport.network.fleet_connection import FleetConnection
from fedvol.transport.network.fleet_node import FleetNode, NodeTiming
from fedvol.transport.network.public_gate import _FLEET
from fedvol.types import SiteId

HOST = "127.0.0.1"
SANE, MAD = Hospital(name="hospital_1"), Hospital(name="hospital_2")
HEADERS_LAST = 100
"""Messages that go out under one signature of the node; Flower takes it for some minutes."""


class Heard(Events):
    """Events that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._told = threading.Condition()

    def event(self, name: str, /, **fields: Any) -> None:
        with self._told:
            super().event(name, **fields)
            self._told.notify_all()

    def first(self, name: str) -> dict[str, Any]:
        with self._told:
            assert self._told.wait_for(lambda: self.named(name), 120.0), f"no {name}: {self.seen}"
            return self.named(name)[0]


@contextmanager
def beside(do: Callable[[threading.Event], None]) -> Generator[None]:
    """Something serves in a thread; it must end well once it is told to stop."""
    stop, ended = threading.Event(), threading.Event()

    def run() -> None:
        do(stop)
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert ended.is_set()


@dataclass(kw_only=True)
class World:
    """A server, a hospital that is connected, and one that went mad."""

    consortium: Consortium
    port: int = field(default_factory=free_port)
    server: Heard = field(default_factory=Heard)
    node: Heard = field(default_factory=Heard)

    def __post_init__(self) -> None:
        state = ServerState.open(self.consortium.folder)
        self.consortium.join(state, SANE, MAD)
        self.tls = client_context(state.authority_pem)
        state.close()

    def connect(self, hospital: Hospital) -> FleetConnection:
        return FleetConnection(
            f"{HOST}:{self.port}", tls=self.tls, key=hospital.node, heartbeat_s=10.0
        )

    def node_headers(self) -> dict[str, str]:
        """What the mad hospital's node would send with its next call."""
        caught: dict[str, str] = {}
        connection = self.connect(MAD)
        hooks = connection._client._client.event_hooks
        connection._client._client.event_hooks = {
            **hooks,
            "request": [lambda request: caught.update(request.headers)],
        }
        with closing(connection):
            connection.deactivate(connection.activate())
        return {
            name: value
            for name, value in caught.items()
            if name.startswith("flwr") or name == "x-timestamp"
        }


@pytest.fixture
def world(tmp_path: Path) -> Generator[World]:
    port, private = free_port(), free_port()
    consortium = make_consortium(tmp_path, port=port, private_port=private)
    world = World(consortium=consortium, port=port)
    folder = world.consortium.folder
    with beside(lambda stop: serve_server(folder, observer=world.server, stop=stop)):
        world.server.first("coordinator.started")
        with closing(world.connect(SANE)) as connection:
            node = FleetNode(
                connection,
                site=SiteId(SANE.name),
                state=tmp_path / "node",
                timing=NodeTiming(heartbeat_s=10.0, poll_s=0.1),
                observer=world.node,
                departures=AllDepart(),
            )
            with beside(lambda stop: node.serve(lambda message, context: message, stop=stop)):
                world.node.first("link.up")
                yield world


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One message, and which answers are refusals of it."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes
    refusals: frozenset[int]


OURS = frozenset({400, 401, 403, 404, 405, 409, 413, 422, 429})
ENGINES = OURS | {411, 412, 415, 422, 500}
"""Of the engine's own mistakes we can only say that they stay without consequence."""


def messages(generator: np.random.Generator, world: World) -> Iterator[Sent]:
    """Rubbish without end, every route in turn."""
    headers: dict[str, str] = {}
    number = 0
    while True:
        for path in sorted(_FLEET):
            if number % HEADERS_LAST == 0:
                headers = world.node_headers()
            number += 1
            yield Sent(
                method="POST",
                path=path,
                headers={**headers, "content-type": "application/x-protobuf"},
                content=noise(generator),
                refusals=ENGINES,
            )
        yield from unsigned(generator)
        yield from signed(generator)


def noise(generator: np.random.Generator) -> bytes:
    """Bytes, at least one."""
    return generator.bytes(int(generator.integers(1, 2000)))


def text(generator: np.random.Generator) -> str:
    return noise(generator)[:20].hex()


def unsigned(generator: np.random.Generator) -> Iterator[Sent]:
    """Our own routes, called by nobody in particular."""
    routes = [
        ("POST", "enrol"), ("GET", "proposals"), ("GET", f"proposals/{text(generator)}"),
        ("POST", "consents"), ("GET", f"receipts/{text(generator)}"),
        ("GET", "blobs/" + "0" * 64), ("HEAD", "uploads/" + "0" * 64),
        ("PATCH", "uploads/" + "0" * 64), ("POST", "roster"), ("GET", text(generator)),
    ]  # fmt: skip
    for method, route in routes:
        headers = {HEADER: text(generator)} if generator.random() < 0.5 else {}
        yield Sent(
            method=method,
            path=f"/fedvol/v1/{route}",
            headers=headers,
            content=noise(generator) if method in ("POST", "PATCH") else b"",
            refusals=OURS,
        )


def signed(generator: np.random.Generator) -> Iterator[Sent]:
    """Our own routes, called by a hospital of the consortium that says what makes no sense."""
    digest = generator.bytes(32).hex()
    bodies = [
        noise(generator),
        json.dumps({text(generator): 1}).encode(),
        sign_body(MAD.identity, Tag.CONSENT, {text(generator): text(generator)}),
        MAD.consent(text(generator), digest),
        MAD.consent("first", digest, site=SANE.name),
        MAD.consent("first", digest, decision="maybe"),
        MAD.consent("first", digest, time="yesterday"),
        sign_body(MAD.identity, Tag.ENROLMENT, {"proposal": "first"}),
        flipped(MAD.consent("first", digest), generator),
    ]
    for body in bodies:
        yield call("POST", "/fedvol/v1/consents", content=body)
    for body in (flipped(MAD.enrolment(digest), generator), MAD.enrolment(digest, node=digest)):
        yield Sent(method="POST", path="/fedvol/v1/enrol", headers={}, content=body, refusals=OURS)
    yield call("GET", f"/fedvol/v1/proposals/{text(generator)}")
    yield call("GET", f"/fedvol/v1/blobs/{digest}")
    yield call("GET", f"/fedvol/v1/blobs/{text(generator)}")
    yield call("HEAD", f"/fedvol/v1/uploads/{text(generator)}")
    for offset in (0, int(generator.integers(1, 1 << 40)), -1):
        yield call("PATCH", f"/fedvol/v1/uploads/{digest}", content=noise(generator), offset=offset)


def call(method: str, path: str, *, content: bytes = b"", offset: int | None = None) -> Sent:
    """A call that the mad hospital signs as it should be."""
    headers = sign_call(
        MAD.identity,
        site=SiteId(MAD.name),
        method=method,
        path=path,
        offset=offset,
        size_bytes=len(content),
    )
    if offset is not None:
        headers |= {OFFSET: str(offset), COMPLETE: "1"}
    return Sent(method=method, path=path, headers=headers, content=content, refusals=OURS)


def flipped(data: bytes, generator: np.random.Generator) -> bytes:
    """A message with one bit changed."""
    changed = bytearray(data)
    changed[int(generator.integers(len(data)))] ^= 1 << int(generator.integers(8))
    return bytes(changed)


@pytest.mark.parametrize("number", [500, pytest.param(2000, marks=pytest.mark.full)])
def test_rubbish_is_refused_and_everybody_stays_up(world: World, number: int) -> None:
    generator = np.random.default_rng(number)
    base = f"https://{HOST}:{world.port}"
    with httpx.Client(verify=world.tls, base_url=base, trust_env=False) as client:
        for sent, _ in zip(messages(generator, world), range(number), strict=False):
            answer = client.request(
                sent.method, sent.path, headers=sent.headers, content=sent.content
            )
            assert answer.status_code in sent.refusals, (sent, answer.status_code)
        assert client.get("/health").status_code == 200
        path = "/fedvol/v1/proposals"
        assert client.get(path, headers=SANE.call("GET", path)).json() == {"proposals": []}
    assert world.node.named("link.down", "message.refused") == []
    assert world.server.named("coordinator.ended", "sites.failed") == []
    folder = world.consortium.folder
    assert [path for path in (folder / "exchange").rglob("*") if path.is_file()] == []
    with closing(world.connect(MAD)) as mended:
        mended.deactivate(mended.activate())
