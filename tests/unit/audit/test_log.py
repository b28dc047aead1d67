import errno
import json
import os
from pathlib import Path

import pytest
from audit_logs import clock, lines_of, record, written

from fedvol.audit import AuditLog, verify_log
from fedvol.errors import AuditError


def test_records_are_whole_lines_in_a_chain(tmp_path: Path) -> None:
    path = written(tmp_path / "deep" / "audit.jsonl")
    events = [json.loads(line)["event"] for line in lines_of(path)]
    assert [event["sequence"] for event in events] == [1, 2, 3, 4]
    assert events[2]["round"] == 2
    assert events[0]["time"] == "2026-01-02T03:04:05+00:00"
    summary = verify_log(path)
    assert summary.records == 4
    assert summary.head == json.loads(lines_of(path)[-1])["hash"]
    assert path.stat().st_mode & 0o077 == 0


def test_a_log_of_an_earlier_version_verifies_and_goes_on(tmp_path: Path) -> None:
    """Two lines as they were written before records named consent, key and message."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes((Path(__file__).parent / "earlier.jsonl").read_bytes())
    assert verify_log(path).head.startswith("e8c2243e6b981318")
    AuditLog(path).append(record())
    assert verify_log(path).records == 3


def test_reopening_goes_on(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl", 2)
    AuditLog(path).append(record())
    assert verify_log(path).records == 3


def test_two_logs_on_one_file_do_not_fork_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    one, other = AuditLog(path), AuditLog(path)
    for _ in range(3):
        one.append(record())
        other.append(record())
    assert verify_log(path).records == 6
    assert one.end.records == 5
    assert other.end == AuditLog(path).end


def test_long_lines_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    one, other = AuditLog(path), AuditLog(path)
    for log in (one, other, one):
        log.append(record(form="x" * 200_000))
    assert verify_log(path).records == 3


def test_text_that_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path).append(record(run="half a pair: \ud800"))
    assert json.loads(lines_of(path)[0])["event"]["run"] == "half a pair: ?"


def test_torn_last_line_is_removed_and_noted(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl")
    whole = path.read_bytes()
    for cut in (1, 30, len(lines_of(path)[-1]) - 1):
        path.write_bytes(whole[:-cut])
        with pytest.raises(AuditError, match=r"line 4: .* torn.*start it again"):
            verify_log(path)
        AuditLog(path, now=clock()).append(record(9))
        events = [json.loads(line)["event"] for line in lines_of(path)]
        assert [event["kind"] for event in events[3:]] == ["note", "update"]
        assert events[3]["note"] == "torn line removed"
        assert events[3]["size_bytes"] == len(whole.splitlines(keepends=True)[-1]) - cut
        assert verify_log(path).records == 5


def test_a_line_torn_by_another_process_is_mended_by_the_next_append(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl")
    log = AuditLog(path)
    with path.open("ab") as file:
        file.write(b'{"event":{"kind":"upd')
    log.append(record())
    assert [json.loads(line)["event"]["kind"] for line in lines_of(path)[4:]] == ["note", "update"]
    assert verify_log(path).records == 6


def test_a_folder_that_cannot_be_synced_is_told_as_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("fedvol.audit.log.sync_folder", fails)
    with pytest.raises(AuditError, match="Input/output error"):
        AuditLog(tmp_path / "audit.jsonl")


def test_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "audit.jsonl")
    log = AuditLog(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AuditError, match="No space left"):
        log.append(record())
    monkeypatch.undo()
    assert path.read_bytes() == before
    log.append(record())
    assert verify_log(path).records == 5


def test_unwritable_folder_is_an_audit_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError):
        AuditLog(tmp_path / "file" / "audit.jsonl")


@pytest.mark.parametrize(
    "tamper",
    [
        lambda lines: lines[:-1],
        lambda lines: [],
        lambda lines: [*lines[:-1], lines[-1].replace(b'"round":3', b'"round":7')],
        lambda lines: [*lines[1:], lines[0]],
    ],
    ids=["cut", "emptied", "changed", "moved"],
)
def test_a_log_changed_under_a_running_process_stops_it(tmp_path: Path, tamper) -> None:
    path = written(tmp_path / "audit.jsonl")
    log = AuditLog(path)
    path.write_bytes(b"".join(tamper(lines_of(path))))
    before = path.read_bytes()
    for _ in range(2):  # and it stays stopped
        with pytest.raises(AuditError, match=r"line 4: .* gone or changed"):
            log.append(record())
    assert path.read_bytes() == before


def test_a_log_taken_away_under_a_running_process_stops_it(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl")
    log = AuditLog(path)
    path.unlink()
    with pytest.raises(AuditError, match="gone or changed"):
        log.append(record())


def test_what_others_append_is_held_to_the_chain(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl")
    log = AuditLog(path)
    with path.open("ab") as file:
        file.write(lines_of(path)[1])
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(AuditError, match=r"line 5: .*record 2 stands here"):
            log.append(record())
    assert path.read_bytes() == before
