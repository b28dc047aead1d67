import errno
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.errors import AuditError
from fedvol.privacy import AuditRecord, FileAudit, verify_audit
from fedvol.types import Digest

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def record(round_index: int = 1) -> AuditRecord:
    return AuditRecord(
        kind="update",
        site="site_a",
        recipient="server",
        run="r1",
        plan=Digest("0" * 64),
        stage=0,
        round=round_index,
        action="train.finetune",
        form="plain float32",
        num_tensors=2,
        size_bytes=100,
        digest=Digest("1" * 64),
        suppressed=0,
        code="",
    )


def written(path: Path, num: int = 4) -> Path:
    audit = FileAudit(path, now=lambda: NOW)
    for index in range(num):
        audit.append(record(index))
    return path


def test_records_are_whole_lines_in_a_chain(tmp_path: Path) -> None:
    path = written(tmp_path / "deep" / "audit.jsonl")
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert [event["sequence"] for event in events] == [1, 2, 3, 4]
    assert events[2]["round"] == 2
    assert events[0]["time"] == "2026-01-02T03:04:05+00:00"
    summary = verify_audit(path)
    assert summary.records == 4
    assert summary.head == json.loads(path.read_text().splitlines()[-1])["hash"]
    assert path.stat().st_mode & 0o077 == 0


def test_reopening_goes_on(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl", 2)
    FileAudit(path).append(record())
    assert verify_audit(path).records == 3


def test_two_logs_on_one_file_do_not_fork_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    one, other = FileAudit(path), FileAudit(path)
    for _ in range(3):
        one.append(record())
        other.append(record())
    assert verify_audit(path).records == 6


def test_long_last_line_is_found(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = FileAudit(path)
    from dataclasses import replace

    for _ in range(2):
        audit.append(replace(record(), form="x" * 200_000))
    audit.append(record())
    assert verify_audit(path).records == 3


def _changed(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"round":1', b'"round":9'), *lines[2:]]


@pytest.mark.parametrize(
    ("tamper", "line"),
    [
        (_changed, 2),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], 3),
        (lambda lines: [*lines[:3], b"\n", lines[3]], 4),
        (lambda lines: [lines[0], lines[1].replace(b":", b": ", 1), *lines[2:]], 2),
        (lambda lines: [*lines[:3], lines[3][:40] + b"\n"], 4),
        (lambda lines: [*lines[:2], b"\xff\xfe\n", *lines[2:]], 3),
    ],
)
def test_tampering_is_found_and_nothing_is_appended(tmp_path: Path, tamper, line: int) -> None:
    path = written(tmp_path / "audit.jsonl")
    path.write_bytes(b"".join(tamper(path.read_bytes().splitlines(keepends=True))))
    before = path.read_bytes()
    with pytest.raises(AuditError, match=f"line {line}"):
        verify_audit(path)
    with pytest.raises(AuditError):
        FileAudit(path)
    assert path.read_bytes() == before


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_byte_is_found(tmp_path_factory, data) -> None:
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    content = bytearray(written(path).read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(AuditError):
        verify_audit(path)


def test_torn_last_line_is_removed_and_noted(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl")
    whole = path.read_bytes()
    for cut in (1, 30, len(whole.splitlines(keepends=True)[-1]) - 1):
        path.write_bytes(whole[:-cut])
        with pytest.raises(AuditError, match="line 4"):
            verify_audit(path)
        FileAudit(path, now=lambda: NOW).append(record(9))
        events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
        assert [event["kind"] for event in events[3:]] == ["note", "update"]
        assert events[3]["note"] == "torn line removed"
        assert verify_audit(path).records == 5


def test_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "audit.jsonl")
    audit = FileAudit(path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AuditError, match="No space left"):
        audit.append(record())
    monkeypatch.undo()
    assert path.read_bytes() == before
    audit.append(record())
    assert verify_audit(path).records == 5


def test_unwritable_folder_is_an_audit_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError):
        FileAudit(tmp_path / "file" / "audit.jsonl")
    with pytest.raises(AuditError):
        verify_audit(tmp_path / "absent.jsonl")


def test_killed_writer_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_file_audit import FileAudit, record
audit = FileAudit(Path({str(path)!r}))
while True:
    audit.append(record())
    print("appended", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        acknowledged = 20 + len(writer.stdout.read().splitlines())
    FileAudit(path).append(record())
    summary = verify_audit(path)
    assert summary.records >= acknowledged + 1
