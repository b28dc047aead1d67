"""What the outside world reaches of the server."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

import pytest

from fedvol.transport.network.public_gate import KEY_HEADER, MAX_FLEET_BYTES, PublicGate

KEY = b"-----BEGIN PUBLIC KEY-----"
SIGNED = {KEY_HEADER.decode(): base64.b64encode(KEY).decode()}


class Reached:
    """An app that notes which paths reach it."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def call(
    path: str, *, method: str = "POST", headers: Mapping[str, str] | None = None, kind: str = "http"
) -> tuple[int, list[str], list[str]]:
    """Status, and what reached Flower and our own app."""
    flower, own = Reached(), Reached()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nobody reads a body here")

    scope = {
        "type": kind,
        "path": path,
        "method": method,
        "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    gate = PublicGate(flower, own, admits=lambda key: key == KEY)
    asyncio.run(gate(scope, receive, send))
    status = sent[0].get("status", sent[0].get("code", 0)) if sent else 0
    return status, flower.paths, own.paths


SMALL = {"content-length": "10", **SIGNED}


@pytest.mark.parametrize(
    "name",
    [
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "get-run",
        "push-object",
        "pull-object",
        "confirm-message-received",
    ],
)
def test_what_a_site_needs_passes(name: str) -> None:
    assert call(f"/v1/fleet/{name}", headers=SMALL) == (200, [f"/v1/fleet/{name}"], [])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet/get-fab",
        "/v1/fleet/anything-new",
        "/v1/fleet/pull-messages/",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "//v1/fleet/pull-messages",
        "/V1/fleet/pull-messages",
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/acquire-task",
        "/v1/runtime/pull-task-input",
        "/fedvol/operator/v1/runs",
        "/fedvol",
        "/docs",
        "/openapi.json",
        "/",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
def test_all_else_is_not_there(path: str, method: str) -> None:
    assert call(path, method=method, headers=SMALL) == (404, [], [])


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods_of_a_sites_routes_are_not_there(method: str) -> None:
    assert call("/v1/fleet/pull-messages", method=method, headers=SMALL) == (404, [], [])


def test_our_own_routes_pass() -> None:
    assert call("/fedvol/v1/blobs/x", method="GET") == (200, [], ["/fedvol/v1/blobs/x"])


def test_health_passes() -> None:
    assert call("/health", method="GET") == (200, ["/health"], [])


def test_a_body_of_unknown_length_is_refused() -> None:
    assert call("/v1/fleet/push-object", headers=SIGNED) == (411, [], [])
    negative = {"content-length": "-1", **SIGNED}
    assert call("/v1/fleet/push-object", headers=negative) == (411, [], [])
    chunked = {"transfer-encoding": "chunked", **SIGNED}
    assert call("/v1/fleet/push-object", headers=chunked) == (411, [], [])


def test_a_large_body_is_refused_before_a_byte_is_read() -> None:
    limit = {"content-length": str(MAX_FLEET_BYTES), **SIGNED}
    assert call("/v1/fleet/push-object", headers=limit)[0] == 200
    above = {"content-length": str(MAX_FLEET_BYTES + 1), **SIGNED}
    assert call("/v1/fleet/push-object", headers=above) == (413, [], [])


@pytest.mark.parametrize("text", ["", "x", "é", base64.b64encode(b"another").decode()])
def test_whoever_is_not_of_a_site_does_not_reach_flower(text: str) -> None:
    headers = {"content-length": "10", KEY_HEADER.decode(): text}
    assert call("/v1/fleet/activate-node", headers=headers) == (401, [], [])


def test_whoever_shows_no_key_does_not_reach_flower() -> None:
    headers = {"content-length": "10"}
    assert call("/v1/fleet/activate-node", headers=headers) == (401, [], [])


def test_a_websocket_is_closed() -> None:
    assert call("/v1/fleet/pull-messages", kind="websocket") == (1008, [], [])


def test_a_lifespan_is_left_to_the_private_listener() -> None:
    assert call("/", kind="lifespan") == (0, [], [])
