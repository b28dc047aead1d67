"""`fedvol audit verify`: a whole log, and a broken one."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedvol.cli.main import main
from fedvol.privacy import AuditRecord, FileAudit, verify_audit
from fedvol.types import Digest


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    audit = FileAudit(path, now=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    for index in range(3):
        audit.append(_record(index))
    return path


def test_a_whole_log(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = json.loads(log.read_bytes().splitlines()[-1])["hash"]
    assert main(["audit", "verify", str(log)]) == 0
    said = capsys.readouterr()
    assert said.err == f"{log}: 3 records, the chain holds. Head: {head}\n"
    assert said.out == ""


def test_a_whole_log_for_scripts(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", str(log), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"file": str(log), "records": 3, "head": verify_audit(log).head}


def test_a_changed_record(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + second.replace(b'"round":1', b'"round":7') + third)
    assert main(["audit", "verify", str(log), "--json"]) == 4
    said = capsys.readouterr()
    assert said.err.startswith(f"FV-PRIV-004 {log}, line 2: ")
    error = json.loads(said.out)["error"]
    assert (error["code"], error["exit_status"]) == ("FV-PRIV-004", 4)


def test_a_removed_record(log: Path) -> None:
    first, _second, third = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + third)
    assert main(["audit", "verify", str(log)]) == 4


def test_records_cut_off_the_end_show_in_count_and_head(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = verify_audit(log)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:2]))
    assert main(["audit", "verify", str(log), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["records"] == before.records - 1
    assert said["head"] != before.head


def test_no_such_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", str(tmp_path / "none")]) == 4
    assert "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def _record(index: int) -> AuditRecord:
    return AuditRecord(
        kind="update",
        site="a",
        recipient="server",
        run="federated",
        plan=Digest("0" * 64),
        stage=0,
        round=index,
        action="train",
        form="plain float32",
        num_tensors=2,
        size_bytes=8,
        digest=Digest("1" * 64),
        suppressed=0,
        code="",
    )
