"""Signed checkpoints: when they are written, what they vouch for, and what opening trusts."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from audit_logs import NEVER, NOW, Signer, clock, lines_of, record, written

from fedvol.audit import AuditLog, Cadence, Checkpoint, verify_log
from fedvol.audit.chain import ChainEnd, next_line
from fedvol.errors import AuditError


def kinds(path: Path) -> list[str]:
    return [json.loads(line)["event"]["kind"] for line in lines_of(path)]


def test_one_after_so_many_records_and_one_on_closing(tmp_path: Path) -> None:
    signer = Signer()
    cadence = Cadence(num_records=3, age=timedelta(days=1))
    path = written(tmp_path / "audit.jsonl", 7, signer=signer, cadence=cadence)
    assert kinds(path) == [*["update"] * 3, "checkpoint"] * 2 + ["update", "checkpoint"]
    summary = verify_log(path, keys=[signer.public.hex])
    assert (summary.num_checkpoints, summary.num_unsigned) == (3, 0)
    assert summary.checkpoint is not None
    assert summary.checkpoint.records == 9


def test_closing_twice_signs_once(tmp_path: Path) -> None:
    signer = Signer()
    path = written(tmp_path / "audit.jsonl", 2, signer=signer)
    with AuditLog(path, signer=signer):
        pass
    AuditLog(path, signer=signer).close()
    assert kinds(path) == ["update", "update", "checkpoint"]


def test_one_after_so_long_a_time(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, now=clock(step=timedelta(minutes=6)), signer=Signer())
    for index in range(4):  # at minutes 6, 12, 18, 24; it is opened at 0
        log.append(record(index))
    assert kinds(path) == ["update"] * 4 + ["checkpoint"]
    log.checkpoint_if_due()  # nothing waits
    assert kinds(path)[5:] == []
    log.append(record())  # at 36
    log.checkpoint_if_due()  # at 42
    assert kinds(path)[5:] == ["update"]
    log.checkpoint_if_due()
    log.checkpoint_if_due()  # at 54
    assert kinds(path)[5:] == ["update", "checkpoint"]
    assert verify_log(path).num_unsigned == 0


def test_records_of_a_process_without_a_key_are_signed_by_the_one_that_has_it(
    tmp_path: Path,
) -> None:
    path, signer = tmp_path / "audit.jsonl", Signer()
    supervisor = AuditLog(path, now=clock(), signer=signer)
    worker = AuditLog(path, now=clock())
    worker.append(record())
    worker.close()
    worker.checkpoint_if_due()
    assert kinds(path) == ["update"]
    supervisor.close()
    assert kinds(path) == ["update", "checkpoint"]


def test_a_record_and_its_checkpoint_are_both_there_or_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, now=clock(), signer=Signer(), cadence=Cadence(num_records=1))
    monkeypatch.setattr(Signer, "sign", lambda self, tag, payload: bytes(64))
    with pytest.raises(AuditError, match="signature of a checkpoint"):
        log.append(record())
    assert path.read_bytes() == b""
    monkeypatch.undo()
    log.append(record())
    assert kinds(path) == ["update", "checkpoint"]


@pytest.mark.parametrize(
    "change",
    [
        {"records": 3},
        {"head": "f" * 64},
        {"size_bytes": 1},
        {"time": "2026-01-02T03:04:06+00:00"},
        {"public": Signer("other").public.hex},
        {"signature": "00" * 64},
        {"signature": "no hexadecimal"},
    ],
    ids=lambda change: "".join(change),
)
def test_a_signature_covers_every_field(change: dict) -> None:
    end = ChainEnd(records=2, head=next_line(ChainEnd(), {})[1].head, size_bytes=300)
    genuine = Checkpoint.sign(end, time=NOW.isoformat(), signer=Signer())
    assert genuine.is_genuine()
    assert not replace(genuine, **change).is_genuine()


def forged(path: Path, *, signer: Signer, **changes) -> bytes:
    """A line that fits the chain, and a checkpoint that says something else."""
    end = AuditLog(path).end
    checkpoint = Checkpoint.sign(end, time=NOW.isoformat(), signer=signer)
    return next_line(end, {**checkpoint.as_json(), **changes})[0]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"records": 1}, "other lines"),
        ({"head": "0" * 64}, "other lines"),
        ({"size_bytes": 7}, "other lines"),
        ({"signature": "00" * 64}, "signature is not that"),
        ({"public": Signer("other").public.hex}, "signature is not that"),
        ({"public": 3}, "lacks what"),
    ],
)
def test_a_false_checkpoint_is_named(tmp_path: Path, changes: dict, what: str) -> None:
    path = written(tmp_path / "audit.jsonl", 2)
    line = forged(path, signer=Signer(), **changes)
    with path.open("ab") as file:
        file.write(line)
    with pytest.raises(AuditError, match=f"line 3: .*{what}"):
        verify_log(path)
    with pytest.raises(AuditError, match=f"line 3: .*{what}"):
        AuditLog(path, signer=Signer())


# --- what opening trusts -------------------------------------------------------------------------


def signed_log(path: Path, *, signer: Signer) -> Path:
    """4 records, a checkpoint (line 5), and 2 records that nobody has signed."""
    written(path, 4, signer=signer, cadence=NEVER)
    log = AuditLog(path, now=clock())
    log.append(record(4))
    log.append(record(5))
    return path


def changed(lines: list[bytes], index: int) -> list[bytes]:
    """One line changed at equal length."""
    line = lines[index].replace(b'"suppressed":0', b'"suppressed":9')
    assert line != lines[index]
    return [*lines[:index], line, *lines[index + 1 :]]


def test_opening_with_the_key_reads_from_the_last_checkpoint_on(tmp_path: Path) -> None:
    """The price is stated in the docstring: a change in place is left to `verify_log`."""
    signer = Signer()
    path = signed_log(tmp_path / "audit.jsonl", signer=signer)
    path.write_bytes(b"".join(changed(lines_of(path), 1)))
    AuditLog(path, now=clock(), signer=signer, cadence=NEVER).append(record(6))
    assert kinds(path)[6:] == ["update", "update"]
    with pytest.raises(AuditError, match=r"line 2: .*was changed"):
        verify_log(path)
    with pytest.raises(AuditError, match="line 2"):
        AuditLog(path)
    with pytest.raises(AuditError, match="line 2"):
        AuditLog(path, signer=Signer("other"))


@pytest.mark.parametrize(
    ("tamper", "line"),
    [
        (lambda lines: changed(lines, 5), 6),
        (lambda lines: [*lines[:5], lines[6]], 6),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2),
        (lambda lines: [*lines[:2], lines[2][:-3] + b"\n", *lines[3:]], 3),
        (lambda lines: [*lines[:4], *lines[5:]], 5),
        (lambda lines: [*lines[:4], lines[4].replace(b'"records":4', b'"records":3')], 5),
        (lambda lines: [*lines, lines[4]], 8),
    ],
    ids=[
        "changed after it",
        "removed after it",
        "removed before it",
        "repeated before it",
        "cut before it",
        "itself removed",
        "itself changed",
        "repeated at the end",
    ],
)
def test_all_other_changes_are_found_at_opening(tmp_path: Path, tamper, line: int) -> None:
    signer = Signer()
    path = signed_log(tmp_path / "audit.jsonl", signer=signer)
    path.write_bytes(b"".join(tamper(lines_of(path))))
    with pytest.raises(AuditError, match=f"line {line}: "):
        AuditLog(path, signer=signer)
    with pytest.raises(AuditError, match=f"line {line}: "):
        verify_log(path)


def test_a_stranger_cannot_make_a_checkpoint_that_is_trusted(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl", 3)
    line = forged(path, signer=Signer("stranger"))
    path.write_bytes(b"".join([*changed(lines_of(path), 0), line]))
    with pytest.raises(AuditError, match="line 1"):
        AuditLog(path, signer=Signer())


def test_lines_written_by_another_key_are_followed_once_the_key_changed(tmp_path: Path) -> None:
    path = signed_log(tmp_path / "audit.jsonl", signer=Signer("old"))
    written(path, 1, signer=Signer("new"))
    old, new = Signer("old").public.hex, Signer("new").public.hex
    assert verify_log(path, keys=[new, old]).num_checkpoints == 2


def test_a_torn_line_after_a_checkpoint_is_mended(tmp_path: Path) -> None:
    signer = Signer()
    path = signed_log(tmp_path / "audit.jsonl", signer=signer)
    path.write_bytes(path.read_bytes()[:-10])
    AuditLog(path, now=clock(), signer=signer)
    assert kinds(path)[5:] == ["update", "note"]
    assert verify_log(path).records == 7


def test_a_checkpoint_is_found_across_the_blocks_that_are_read(tmp_path: Path) -> None:
    signer = Signer()
    path = written(tmp_path / "audit.jsonl", 2, signer=signer, cadence=NEVER)
    log = AuditLog(path, now=clock(), signer=signer, cadence=NEVER)
    for size in (10, 65_000, 200_000, 65_536, 1):
        log.append(record(form="x" * size))
        log.append(record(form='"kind":"checkpoint"'))
        path_now = path.read_bytes()
        path.write_bytes(b"".join(changed(lines_of(path), 0)))
        assert AuditLog(path, now=clock(), signer=signer, cadence=NEVER).end == log.end
        path.write_bytes(path_now)
