"""A run over the network on a screen, and the access file of whoever looks at it."""

import io
from pathlib import Path
from typing import Any

import pytest

from fedvol.cli.network_view import ended_well, show_run, watch_run
from fedvol.cli.operator_access import Access, _refusal
from fedvol.errors import FedvolError, QuorumError, UsageError


def site(name: str, **changes: Any) -> dict[str, Any]:
    held = {
        "site": name,
        "takes_part": True,
        "online": True,
        "consent": "approve",
        "why_not": "",
        "state": "contributed",
        "code": "",
        "title": "",
        "steps": 3,
        "training": None,
    }
    return {**held, **changes}


def run(*sites: dict[str, Any], **changes: Any) -> dict[str, Any]:
    held = {
        "run": "liver-1",
        "state": "running",
        "wanted": "started",
        "reason": "",
        "rounds": [3],
        "closed": 1,
        "round": {"round": 2, "state": "collecting"},
        "validation": None,
        "sites": list(sites),
    }
    return {**held, **changes}


def test_each_site_has_a_line_with_the_reason_why_not() -> None:
    stream = io.StringIO()
    silent = site("south", state="silent", code="FV-FED-005", title="time limit passed", steps=None)
    refused = site("west", consent="refuse", why_not="FV-PRIV-003", state="", steps=None)
    gone = site("east", takes_part=False, online=False, state="", steps=None)
    show_run(run(site("north"), silent, refused, gone), stream=stream)
    lines = [line.split() for line in stream.getvalue().splitlines()]
    head = "liver-1: running (started), 1 of 3 rounds closed; round 2 collecting"
    assert lines[0] == head.split()
    assert lines[2] == ["north", "approve", "yes", "contributed", "3"]
    assert lines[3] == [
        "south",
        "approve",
        "yes",
        "silent",
        "-",
        "FV-FED-005",
        "time",
        "limit",
        "passed",
    ]
    assert lines[4] == ["west", "refuse", "yes", "-", "-", "FV-PRIV-003"]
    assert lines[5] == ["east", "approve", "not", "active", "-", "-"]


def test_watching_tells_each_change_once_and_ends_with_the_run() -> None:
    states = [
        run(closed=0, round=None),
        run(closed=0, round=None),
        run(),
        run(state="failed", wanted="started", reason="too few"),
        run(state="failed", wanted="ended", reason="too few"),
    ]
    looks = iter(states)
    stream = io.StringIO()
    waits: list[float] = []
    assert watch_run(lambda: next(looks), stream=stream, wait=waits.append) is states[-1]
    assert len(stream.getvalue().splitlines()) == 3
    assert len(waits) == 4


@pytest.mark.parametrize(
    ("state", "reason", "is_well"),
    [
        ("finished", "", True),
        ("finished", "no test figures from south", False),
        ("failed", "too few", False),
        ("stopped", "ada stopped it", False),
    ],
)
def test_a_run_that_did_not_finish_whole_did_not_end_well(
    state: str, reason: str, is_well: bool
) -> None:
    assert ended_well(run(state=state, wanted="ended", reason=reason)) is is_well


def training(step: int, **changes: Any) -> dict[str, Any]:
    told = {"step": step, "steps": 120, "seconds_left": 240.0, "told_seconds_ago": 2.0}
    return site("north", state="asked", steps=None, training={**told, "is_stale": False, **changes})


def test_a_training_tells_its_step_and_the_time_left() -> None:
    stream = io.StringIO()
    show_run(run(training(31)), stream=stream)
    words = "training round 2, step 31 of 120, about 4 min left"
    assert "step 31 of 120" in stream.getvalue()
    assert "about 4 min left" in stream.getvalue()
    gone = training(31, is_stale=True, told_seconds_ago=75.0)
    looks = iter(
        [
            run(site("north", consent="waiting", state=""), closed=0, round=None),
            run(site("north", state=""), closed=0, round=None),
            run(training(31)),
            run(training(32)),  # not worth a line
            run(training(60, seconds_left=None)),
            run(gone),
            run(site("north", state="silent", code="FV-FED-005", title="time limit passed")),
            run(site("north"), state="finished", wanted="ended"),
        ]
    )
    stream = io.StringIO()
    watch_run(lambda: next(looks), stream=stream, wait=lambda _: None)
    told = [line for line in stream.getvalue().splitlines() if line.startswith("  north")]
    assert told == [
        "  north  has not answered yet",
        "  north  agreed",
        f"  north  {words}",
        "  north  training round 2, step 60 of 120",
        "  north  training round 2, step 31 of 120, no word for 75 s",
        "  north  silent: FV-FED-005 time limit passed",
        "  north  contributed",
    ]


def test_an_access_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "access.json"
    access = Access(port=9092, user="ada", token="0" * 64)
    access.write(path)
    assert Access.read(path) == access
    assert "0000" not in repr(access)
    with pytest.raises(UsageError, match="already"):
        access.write(path)
    path.chmod(0o644)
    with pytest.raises(UsageError, match="others can read it"):
        Access.read(path)
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(UsageError, match="no access file"):
        Access.read(path)
    with pytest.raises(UsageError, match="No such file"):
        Access.read(tmp_path / "absent.json")


def test_the_server_s_error_keeps_its_code_and_status() -> None:
    found = _refusal({"code": "FV-FED-001", "where": "run", "what": "too few", "fix": "Wait."})
    assert type(found) is QuorumError
    assert str(found) == "FV-FED-001 run: too few. Wait."
    assert found.exit_status == 5
    for strange in ({}, [], {"code": "FV-NEW-1", "where": "a", "what": "b", "fix": "C."}):
        assert isinstance(_refusal(strange), FedvolError)


def test_a_closed_round_tells_every_figure_once() -> None:
    figures = {"pretext_loss": 0.5, "pretext_body_loss": None}
    told = run(site("north"), validation={"stage": 0, "round": 1, "metrics": figures})
    line = "  round 1 of stage 1: pretext_loss 0.5000, pretext_body_loss withheld or undefined"
    stream = io.StringIO()
    show_run(told, stream=stream)
    assert line in stream.getvalue()
    looks = iter([run(site("north")), told, told, {**told, "state": "finished", "wanted": "ended"}])
    stream = io.StringIO()
    watch_run(lambda: next(looks), stream=stream, wait=lambda _: None)
    assert stream.getvalue().splitlines().count(line) == 1
