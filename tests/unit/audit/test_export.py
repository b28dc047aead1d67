"""An audit log for spreadsheets and other programs."""

import csv
import io
import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from audit_logs import NOW, Signer, clock, lines_of, record, sent, written

from fedvol.audit import AuditLog, Selection, export_log, verify_log
from fedvol.audit.selection import parse_since
from fedvol.errors import AuditError, UsageError

ALL = Selection()


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def test_a_csv_has_every_field_and_states_the_verified_head(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl", 2, signer=Signer())
    AuditLog(path).append(sent(7))
    summary, totals, num = export_log(path, tmp_path / "log.csv", selection=ALL)
    assert (num, totals.all.num, totals.all.size_bytes) == (4, 2, 200)
    assert stat.S_IMODE((tmp_path / "log.csv").stat().st_mode) == 0o600
    *rows, last = rows_of(tmp_path / "log.csv")
    for row, line in zip(rows, lines_of(path), strict=True):
        said = json.loads(line)
        assert row["hash"] == said["hash"]
        for name, value in said["event"].items():
            assert row[name] == str(value)
    assert [row["kind"] for row in rows] == ["update", "update", "checkpoint", "request"]
    assert (last["kind"], last["records"], last["head"]) == ("verified", "4", summary.head)
    assert summary == verify_log(path)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_cell_is_one_that_a_spreadsheet_runs(tmp_path: Path, start: str) -> None:
    path = tmp_path / "audit.jsonl"
    run = f'{start}cmd|" /C calc"!A0,";\n=1+1'
    AuditLog(path).append(record(run=run, code="-1"))
    export_log(path, tmp_path / "log.csv", selection=ALL)
    row, _ = rows_of(tmp_path / "log.csv")
    assert row["run"] == f"'{run}"
    assert row["code"] == "'-1"
    export_log(path, tmp_path / "log.json", selection=ALL)
    assert json.loads((tmp_path / "log.json").read_text())["events"][0]["run"] == run


def test_a_json_has_every_field_of_the_chosen_lines(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, now=clock())
    for run in ("r1", "r2", "r1"):
        log.append(record(run=run, consent="c-7", recipient_key="ab12"))
    _, _, num = export_log(path, tmp_path / "log.json", selection=Selection(run="r1"))
    said = json.loads((tmp_path / "log.json").read_text())
    assert num == 2
    assert said["schema"] == "fedvol.audit/1"
    assert said["log"] == {"file": "audit.jsonl", **verify_log(path).as_json()}
    assert said["selection"] == {"run": "r1", "since": None, "kind": None}
    kept = [json.loads(line) for line in lines_of(path)]
    del kept[1]
    assert said["events"] == [{**line["event"], "hash": line["hash"]} for line in kept]
    assert said["left"] == {
        "num": 2,
        "num_tensors": 4,
        "size_bytes": 200,
        "by_kind": {"update": {"num": 2, "num_tensors": 4, "size_bytes": 200}},
        "recipients": ["server (ab12)"],
        "consents": ["c-7"],
        "num_without_consent": 0,
        "first": NOW.isoformat(),
        "last": NOW.isoformat(),
    }


def test_a_log_that_does_not_verify_is_not_exported(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl")
    path.write_bytes(b"".join(lines_of(path)[1:]))
    with pytest.raises(AuditError):
        export_log(path, tmp_path / "log.csv", selection=ALL)
    assert not (tmp_path / "log.csv").exists()


@pytest.mark.parametrize("name", ["audit.jsonl", "log.xlsx", "log", "there.csv"])
def test_nothing_is_overwritten_and_no_format_guessed(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "audit.jsonl")
    (tmp_path / "there.csv").write_text("old")
    before = path.read_bytes()
    with pytest.raises(UsageError):
        export_log(path, tmp_path / name, selection=ALL)
    assert path.read_bytes() == before
    assert (tmp_path / "there.csv").read_text() == "old"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("2026-01-02", [0, 1, 2]),
        ("2026-01-02T04:00", [1, 2]),
        ("2026-01-02T06:04:05+01:00", [2]),
        ("2026-01-03", []),
    ],
)
def test_since_is_utc_unless_it_says_otherwise(tmp_path: Path, text: str, kept: list[int]) -> None:
    path = tmp_path / "audit.jsonl"
    for hour in range(3):
        now = clock(start=NOW + timedelta(hours=hour))
        AuditLog(path, now=now).append(record(hour))
    export_log(path, tmp_path / "log.json", selection=Selection(since=parse_since(text)))
    events = json.loads((tmp_path / "log.json").read_text())["events"]
    assert [event["round"] for event in events] == kept


def test_since_that_is_no_date() -> None:
    with pytest.raises(UsageError, match="no date"):
        parse_since("yesterday")
