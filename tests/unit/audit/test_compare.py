"""A site's log held against the server's."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from audit_logs import (
    NOW,
    PLAN,
    answer,
    clock,
    lines_of,
    message,
    receipt,
    received,
    record,
    reply,
    sent,
)

from fedvol.audit import (
    UNNAMED,
    AuditLog,
    Comparison,
    OperatorAction,
    OperatorOutcome,
    ServerRestored,
    compare_logs,
)
from fedvol.errors import AuditError, UsageError

OTHER = {"site": "site_b"}


def compared(
    tmp_path: Path, *, site: Sequence, server: Sequence, is_described: bool = True
) -> Comparison:
    described = [record(1), *site] if is_described else site
    for name, events in (("site", described), ("server", server)):
        log = AuditLog(tmp_path / name, now=clock())
        for event in events:
            log.append(event)
    return compare_logs(tmp_path / "site", tmp_path / "server")


def test_two_logs_of_one_undisturbed_round_agree(tmp_path: Path) -> None:
    found = compared(
        tmp_path,
        site=[received(1), answer(1), receipt(1)],
        server=[
            OperatorAction(user="ada", role="operator", action="start", subject="r1", call="1"),
            OperatorOutcome(user="ada", action="start", subject="r1", call="1"),
            sent(1),
            sent(2, **OTHER),
            reply(2, **OTHER),
            reply(1),
            receipt(1),
        ],
    )
    assert found.site == "site_a"
    assert (found.contributions.num_both, found.requests.num_both) == (1, 1)
    assert found.num_contradictions == 0
    empty = {"not_taken": [], "never_sent": [], "not_theirs": [], "different": []}
    assert found.as_json()["contributions"] == {"num_both": 1, **empty}
    assert found.as_json()["requests"] == {"num_both": 1, **empty}


def test_what_was_sent_and_not_taken_is_no_contradiction(tmp_path: Path) -> None:
    found = compared(
        tmp_path,
        site=[received(1), answer(1), answer(2), answer(3)],
        server=[sent(1), sent(2), reply(1), reply(2, code="FV-FED-002")],
    )
    assert found.contributions.num_both == 1
    assert [(one.message, one.code) for one in found.contributions.not_taken] == [
        (message(2), "FV-FED-002"),
        (message(3), ""),
    ]
    assert [one.message for one in found.requests.not_taken] == [message(-2)]
    assert found.num_contradictions == 0


def test_what_was_taken_and_never_sent_is_one(tmp_path: Path) -> None:
    found = compared(
        tmp_path,
        site=[received(1), received(9), answer(1)],
        server=[sent(1), reply(1), reply(2)],
    )
    assert [one.message for one in found.contributions.never_sent] == [message(2)]
    assert [one.message for one in found.requests.never_sent] == [message(-9)]
    assert found.num_contradictions == 2


@pytest.mark.parametrize(
    "change",
    [
        {"run": "r2"},
        {"plan": "f" * 64},
        {"stage": 1},
        {"round": 7},
        {"action": "query.norms"},
        {"tensors": "3" * 64},
    ],
    ids=lambda change: "".join(change),
)
def test_what_both_tell_differently_is_one(tmp_path: Path, change: dict) -> None:
    found = compared(tmp_path, site=[answer(1), answer(2)], server=[reply(1), reply(2, **change)])
    assert [one.message for one in found.contributions.different] == [message(2)]
    assert found.num_contradictions == 1


def test_what_was_forged_and_refused_is_told_and_no_contradiction(tmp_path: Path) -> None:
    found = compared(
        tmp_path,
        site=[answer(1), received(5, code="FV-TRAN-011"), received(6, code="x", **OTHER)],
        server=[reply(1), reply(2, code="FV-TRAN-011")],
    )
    assert [one.message for one in found.contributions.not_theirs] == [message(2)]
    assert [one.message for one in found.requests.not_theirs] == [message(-5)]
    assert found.num_contradictions == 0


@pytest.mark.parametrize("side", ["site", "server"])
def test_a_receipt_for_what_was_not_taken_is_one(tmp_path: Path, side: str) -> None:
    events = {"site": [answer(1), answer(2)], "server": [reply(1)]}
    events[side] = [*events[side], receipt(1), receipt(2)]
    found = compared(tmp_path, **events)
    assert [one.message for one in found.receipted] == [message(2)]
    assert found.num_contradictions == 1


def test_a_process_killed_and_started_again_may_tell_twice(tmp_path: Path) -> None:
    found = compared(tmp_path, site=[answer(1), answer(1)], server=[sent(1), reply(1), reply(1)])
    assert found.contributions.num_both == 1
    assert found.num_contradictions == 0


def test_a_message_turned_away_once_and_taken_later_was_taken(tmp_path: Path) -> None:
    found = compared(tmp_path, site=[answer(1)], server=[reply(1, code="x"), reply(1)])
    assert found.contributions.num_both == 1
    assert not found.contributions.not_taken


def test_a_refusal_of_the_site_is_a_contribution_like_any(tmp_path: Path) -> None:
    refusal = record(2, kind="refusal", code="FV-PRIV-003", num_tensors=0, digest=PLAN)
    said = answer(2, contribution=PLAN, tensors="")
    found = compared(tmp_path, site=[refusal, said], server=[reply(2, tensors="")])
    assert found.contributions.num_both == 1
    assert found.num_contradictions == 0


def test_a_message_whose_content_the_site_does_not_tell_is_one(tmp_path: Path) -> None:
    events = {"site": [received(1), answer(1)], "server": [sent(1), reply(1)]}
    found = compared(tmp_path, **events, is_described=False)
    assert [one.message for one in found.undescribed] == [message(1)]
    assert found.num_contradictions == 1
    assert found.as_json()["undescribed"] == [one.as_json() for one in found.undescribed]


def test_what_could_not_be_read_is_not_compared(tmp_path: Path) -> None:
    nothing = {"message": UNNAMED, "code": "FV-TRAN-001"}
    found = compared(
        tmp_path,
        site=[answer(1), received(1, **nothing), receipt(1, message=UNNAMED)],
        server=[reply(1), reply(2, **nothing)],
    )
    assert not found.contributions.not_theirs
    assert not found.requests.not_theirs
    assert found.num_contradictions == 0


@pytest.mark.parametrize("site", [[], [answer(1), answer(2, **OTHER)], [sent(1)]])
def test_what_is_not_the_log_of_one_site(tmp_path: Path, site: list) -> None:
    with pytest.raises(UsageError, match="not the log of one site"):
        compared(tmp_path, site=site, server=[reply(1)])


@pytest.mark.parametrize("side", ["site", "server"])
def test_a_log_that_does_not_verify_is_not_compared(tmp_path: Path, side: str) -> None:
    compared(tmp_path, site=[answer(1)], server=[reply(1)] * 2)
    (tmp_path / side).write_bytes(lines_of(tmp_path / side)[1])
    with pytest.raises(AuditError, match=f"{side}, line 1"):
        compare_logs(tmp_path / "site", tmp_path / "server")


def at(path: Path, time: datetime, *events: Any) -> None:
    log = AuditLog(path, now=lambda: time)
    for event in events:
        log.append(event)


def test_what_a_restored_server_forgot_is_named_and_counted_apart(tmp_path: Path) -> None:
    site, server = tmp_path / "site", tmp_path / "server"
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    restored = ServerRestored(
        backup=PLAN, taken=NOW.isoformat(timespec="seconds"), records=2, head=PLAN
    )
    at(site, NOW - 2 * hour, record(1), received(1), answer(1), received(8))
    at(server, NOW - 2 * hour, sent(1), reply(1))
    at(site, NOW - 4 * minute, received(7))  # its clock is slow, or the server hides something
    at(site, NOW + hour, received(2), answer(2), receipt(2))
    at(server, NOW + 3 * hour, restored, sent(3), reply(3), receipt(4))
    at(site, NOW + 3 * hour + 6 * minute, received(3), answer(3), received(9))
    found = compare_logs(site, server)
    (restore,) = found.restores
    assert (restore.backup, restore.taken, restore.restored) == (PLAN, NOW, NOW + 3 * hour)
    assert [(one.message, one.restore) for one in found.requests.never_sent] == [
        (message(-8), None),
        (message(-7), restore),
        (message(-2), restore),
        (message(-9), None),
    ]
    assert [(one.message, one.restore) for one in found.contributions.not_taken] == [
        (message(2), restore)
    ]
    # A receipt in the server's own log was not forgotten.
    assert sorted((one.message, one.restore is None) for one in found.receipted) == sorted(
        [(message(2), False), (message(4), True)]
    )
    assert (found.num_contradictions, found.num_after_backup) == (6, 3)


def test_a_restore_that_does_not_say_of_when_is_no_excuse(tmp_path: Path) -> None:
    restored = ServerRestored(backup=PLAN, taken="yesterday", records=0, head=PLAN)
    with pytest.raises(AuditError, match="not when the backup was taken"):
        compared(tmp_path, site=[answer(1)], server=[restored, reply(1)])
