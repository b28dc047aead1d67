"""Whoever is turned away is counted, and fills no disk."""

from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from audit_logs import NOW, Noted
from flwr.proto.control_pb2 import ListNodesRequest
from flwr.supercore.control.control_http_client import ControlHttpClient
from serving import HOST, serving

from fedvol.audit import AuditEvent, CallersRefused
from fedvol.errors import AuditError
from fedvol.server.refusals import EVERY, MAX_NAMED, OTHERS, Refusals


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(noted: Noted, clock: Clock) -> Refusals:
    return Refusals(noted, now=clock)


def come(refusals: Refusals, address: str, *, times: int = 1) -> None:
    for _ in range(times):
        refusals.count(port="public", address=address, status=401)


def told(noted: Noted) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for event in noted.events:
        assert isinstance(event, CallersRefused)
        found.append((event.address, event.count))
    return found


def test_a_rush_is_a_line_now_and_one_every_ten_minutes(
    refusals: Refusals, noted: Noted, clock: Clock
) -> None:
    come(refusals, "192.0.2.7", times=1000)
    refusals.write()
    assert told(noted) == [("192.0.2.7", 1000)]
    for _ in range(20):  # a look every half minute
        clock.now += EVERY / 20
        come(refusals, "192.0.2.7", times=50)
        refusals.write()
    assert told(noted)[1:] == [("192.0.2.7", 1000)]
    last = noted.events[-1]
    assert isinstance(last, CallersRefused)
    assert (last.first, last.last) == ("2026-01-02T03:04:35Z", "2026-01-02T03:14:05Z")
    refusals.write()
    assert len(noted.events) == 2  # nobody came


def test_what_is_left_is_written_at_the_end(refusals: Refusals, noted: Noted) -> None:
    come(refusals, "192.0.2.7")
    refusals.write()
    come(refusals, "192.0.2.7", times=6)
    refusals.write(is_closing=True)
    refusals.write(is_closing=True)
    assert told(noted) == [("192.0.2.7", 1), ("192.0.2.7", 6)]


def test_many_addresses_have_few_lines_and_the_sum_is_whole(
    refusals: Refusals, noted: Noted, clock: Clock
) -> None:
    for number in range(1000):
        come(refusals, f"192.0.2.{number}")
        if number % 100 == 0:
            refusals.write()
    refusals.write(is_closing=True)
    assert len(refusals._counts) == MAX_NAMED + 1
    counts = told(noted)
    assert sum(count for _, count in counts) == 1000
    assert len(counts) == MAX_NAMED + 2  # of the others one at once, and the rest
    others = sum(count for address, count in counts if address == OTHERS)
    assert others == 1000 - MAX_NAMED
    # Names are given anew once the old ones have been quiet.
    clock.now += EVERY
    refusals.write()
    assert not refusals._counts
    come(refusals, "198.51.100.1")
    refusals.write()
    assert told(noted)[-1] == ("198.51.100.1", 1)


def test_what_cannot_be_written_is_kept(clock: Clock) -> None:
    class Full(Noted):
        is_full = True

        def append(self, event: AuditEvent, /) -> None:
            if self.is_full:
                raise AuditError("audit.jsonl", "no space", "Free some.")
            super().append(event)

    log = Full()
    refusals = Refusals(log, now=clock)
    come(refusals, "192.0.2.7", times=3)
    with pytest.raises(AuditError):
        refusals.write()
    clock.now += timedelta(seconds=30)
    come(refusals, "192.0.2.7", times=4)
    log.is_full = False
    refusals.write()
    assert told(log) == [("192.0.2.7", 7)]


def test_both_ports_count_and_believe_no_header(
    refusals: Refusals, noted: Noted, tmp_path: Path
) -> None:
    elsewhere = {"x-forwarded-for": "203.0.113.9"}
    with serving(tmp_path, refusals=refusals) as server:
        for path, status in (
            ("/fedvol/v1/uploads/0", 405),
            ("/v1/fleet/pull-messages", 401),
            ("/nowhere", 404),
            ("/v1/control/start-run", 404),
            ("/v1/runtime/pull-app-inputs", 404),
            ("/v1/fleet/register-node", 404),
            ("/fedvol/operator/v1/runs/tiny-1/start", 404),
        ):
            assert server.post(path, headers=elsewhere).status_code == status
        private = f"{HOST}:{server.private}"
        with (
            ControlHttpClient.from_server_address(private, True, None, interceptors=[]) as client,
            pytest.raises(httpx.HTTPStatusError, match="401"),
        ):
            client.ListNodes(ListNodesRequest())
    refusals.write()
    assert sorted(
        (one.port, one.address, one.status, one.count)
        for one in noted.events
        if isinstance(one, CallersRefused)
    ) == [("private", HOST, 401, 1), ("public", HOST, 401, 1), ("public", HOST, 404, 4)]
