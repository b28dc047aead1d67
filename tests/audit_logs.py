"""Events, a signer and whole logs for tests of the audit log."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedvol.audit import (
    AnswerSent,
    AuditEvent,
    AuditLog,
    AuditRecord,
    Cadence,
    Receipt,
    ReplyReceived,
    RequestReceived,
    RequestSent,
)
from fedvol.identity import IdentityKey
from fedvol.plan import digest_bytes
from fedvol.types import Digest

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NEVER = Cadence(num_records=10**9, age=timedelta(days=10**6))
PLAN, CONTENT, TENSORS = Digest("0" * 64), Digest("1" * 64), Digest("2" * 64)


class Noted:
    """Keeps events in memory."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def append(self, event: AuditEvent, /) -> None:
        self.events.append(event)


class Signer(IdentityKey):
    """A key of its own; the same name, the same key."""

    def __init__(self, name: str = "site") -> None:
        secret = name.encode().ljust(32, b"\0")
        super().__init__(Ed25519PrivateKey.from_private_bytes(secret))


def clock(*, start: datetime = NOW, step: timedelta = timedelta(0)) -> Callable[[], datetime]:
    """A clock that goes on by one step whenever it is read."""
    ticks = itertools.count()
    return lambda: start + next(ticks) * step


def message(number: int) -> Digest:
    return digest_bytes(str(number).encode())


def record(number: int = 1, **changes: Any) -> AuditRecord:
    fields: dict[str, Any] = {
        "kind": "update",
        "site": "site_a",
        "recipient": "server",
        "run": "r1",
        "plan": PLAN,
        "stage": 0,
        "round": number,
        "action": "train.finetune",
        "form": "plain float32",
        "num_tensors": 2,
        "size_bytes": 100,
        "digest": CONTENT,
        "suppressed": 0,
        "code": "",
    }
    return AuditRecord(**{**fields, **changes})


def _carried(number: int, changes: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "message": message(number),
        "site": "site_a",
        "run": "r1",
        "plan": PLAN,
        "stage": 0,
        "round": number,
        "action": "train.finetune",
        "tensors": TENSORS,
        "size_bytes": 120,
    }
    return {**fields, **changes}


def answer(number: int, **changes: Any) -> AnswerSent:
    return AnswerSent(
        **{"request": message(-number), "contribution": CONTENT, **_carried(number, changes)}
    )


def reply(number: int, **changes: Any) -> ReplyReceived:
    return ReplyReceived(
        **{"request": message(-number), "sender_key": "aa", **_carried(number, changes)}
    )


def sent(number: int, **changes: Any) -> RequestSent:
    return RequestSent(**_carried(number, {"message": message(-number), **changes}))


def received(number: int, **changes: Any) -> RequestReceived:
    said = {"message": message(-number), "sender_key": "bb", **changes}
    return RequestReceived(**_carried(number, said))


def receipt(number: int, **changes: Any) -> Receipt:
    fields: dict[str, Any] = {
        "site": "site_a",
        "run": "r1",
        "stage": 0,
        "round": number,
        "message": message(number),
        "receipt": message(1000 + number),
    }
    return Receipt(**{**fields, **changes})


def written(path: Path, num: int = 4, **how: Any) -> Path:
    """A log of that many updates, numbered from 0."""
    with AuditLog(path, **{"now": clock(), **how}) as log:
        for index in range(num):
            log.append(record(index))
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)
