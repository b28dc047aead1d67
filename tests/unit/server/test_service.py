"""A full disk at one place keeps the server's main process from nothing else."""

import json
from pathlib import Path

import pytest
from server_parties import Consortium, Hospital

from fedvol.audit import AuditLog
from fedvol.errors import AuditError, DiskFullError
from fedvol.server.server_state import ServerState
from fedvol.server.service import _Server
from fedvol.types import Json


class Told:
    """Remembers events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Json]] = []

    def event(self, name: str, /, **fields: Json) -> None:
        self.events.append((name, fields.get("code")))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def server(state: ServerState, consortium: Consortium, told: Told) -> _Server:
    consortium.join(state, Hospital(name="north"))
    return _Server(state, observer=told)


def kinds(log: Path) -> list[str]:
    return [json.loads(line)["event"]["kind"] for line in log.read_text().splitlines()]


def full(*_: object, **__: object) -> None:
    raise DiskFullError("federation.db", "no space is left", "Free some.")


def test_what_is_due_is_done_though_something_else_fails(
    server: _Server, state: ServerState, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bool] = []
    server._refusals.count(port="public", address="192.0.2.7", status=401)
    with monkeypatch.context() as failing:
        failing.setattr(type(state.registry), "nodes", full)
        failing.setattr(AuditLog, "checkpoint_if_due", lambda _log: checked.append(True))
        server.look()
        assert kinds(state.folder.audit) == ["callers_refused"]
        failing.setattr(type(server._refusals), "write", full)
        server.look()
    failed = ("look.failed", DiskFullError.code)
    assert [event for event in told.events if event[0] == "look.failed"] == [failed] * 3
    assert checked == [True, True]
    server.close()


def test_the_audit_log_is_signed_at_the_end_though_refusals_cannot_be_written(
    server: _Server, state: ServerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    server._refusals.count(port="public", address="192.0.2.7", status=401)
    server._refusals.write()

    def fail(*_: object, **__: object) -> None:
        raise AuditError("audit.jsonl", "no space is left", "Free some.")

    monkeypatch.setattr(type(server._refusals), "write", fail)
    with pytest.raises(AuditError, match="no space"):
        server.close()
    assert kinds(state.folder.audit) == ["callers_refused", "checkpoint"]
