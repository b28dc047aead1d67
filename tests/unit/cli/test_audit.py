"""`fedvol audit`: what each of its commands says, and with which status."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from audit_logs import (
    NOW,
    Signer,
    answer,
    clock,
    lines_of,
    message,
    receipt,
    received,
    record,
    reply,
    sent,
    written,
)

from fedvol.audit import AuditLog, OperatorOutcome, verify_log
from fedvol.cli.main import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return written(tmp_path / "audit.jsonl", 3)


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    path = written(tmp_path / "signed.jsonl", 3, signer=Signer())
    return written(path, 1)


# --- verify --------------------------------------------------------------------------------------


def test_a_whole_log(log: Path, capsys: Capture) -> None:
    head = json.loads(lines_of(log)[-1])["hash"]
    assert main(["audit", "verify", str(log)]) == 0
    said = capsys.readouterr()
    assert said.err == (
        f"{log}: 3 records, the chain holds. Head: {head}\nNothing in it is signed.\n"
    )
    assert said.out == ""


def test_a_whole_log_for_scripts(signed: Path, capsys: Capture) -> None:
    assert main(["audit", "verify", str(signed), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"file": str(signed), **verify_log(signed).as_json()}
    assert said["records"] == 5
    assert said["checkpoint"]["public"] == Signer().public.hex


def test_a_signed_log(signed: Path, capsys: Capture) -> None:
    key = Signer().public.hex
    signed_up_to = f"1 checkpoint; signed up to record 3 ({NOW.isoformat()}) by"
    assert main(["audit", "verify", str(signed)]) == 0
    assert f"{signed_up_to} key {key}; 1 later record not" in capsys.readouterr().err
    other = Signer("old").public.hex
    assert main(["audit", "verify", str(signed), "--key", other, "--key", key.upper()]) == 0
    assert f"{signed_up_to} the key given" in capsys.readouterr().err
    assert main(["audit", "verify", str(signed), "--key", other]) == 4
    assert "signed by another key" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["", "ab", "x" * 64])
def test_a_key_that_is_none(signed: Path, capsys: Capture, key: str) -> None:
    assert main(["audit", "verify", str(signed), "--key", key]) == 2
    assert "is no public key" in capsys.readouterr().err


def test_a_changed_record(log: Path, capsys: Capture) -> None:
    first, second, third = lines_of(log)
    log.write_bytes(first + second.replace(b'"round":1', b'"round":7') + third)
    assert main(["audit", "verify", str(log), "--json"]) == 4
    said = capsys.readouterr()
    assert said.err.startswith(f"FV-PRIV-004 {log}, line 2: ")
    error = json.loads(said.out)["error"]
    assert (error["code"], error["exit_status"]) == ("FV-PRIV-004", 4)


def test_records_cut_off_the_end_show_against_what_was_noted(
    signed: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["audit", "verify", str(signed), "--json"]) == 0
    noted = tmp_path / "noted.json"
    noted.write_text(capsys.readouterr().out)
    AuditLog(signed).append(record())
    assert main(["audit", "verify", str(signed), "--against", str(noted)]) == 0
    assert "goes on from the 5 records that were noted" in capsys.readouterr().err
    signed.write_bytes(b"".join(lines_of(signed)[:4]))
    assert main(["audit", "verify", str(signed)]) == 0
    assert main(["audit", "verify", str(signed), "--against", str(noted)]) == 4
    assert "after line 4: the log was cut: it had 5 lines" in capsys.readouterr().err
    assert main(["audit", "verify", str(signed), "--against", str(signed)]) == 2


def test_no_such_log(tmp_path: Path, capsys: Capture) -> None:
    for words in (["verify"], ["show"], ["export", "--out", str(tmp_path / "a.csv")]):
        assert main(["audit", *words, str(tmp_path / "none")]) == 4
        assert "cannot be read" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


# --- show ----------------------------------------------------------------------------------------


@pytest.fixture
def site_log(tmp_path: Path) -> Path:
    path = tmp_path / "site.jsonl"
    log = AuditLog(path, now=clock(step=timedelta(hours=1)))
    log.append(received(1))
    for number in (1, 2):
        log.append(
            record(
                number,
                run=f"r{number}",
                size_bytes=1234567,
                recipient_key="0123456789abcdef",
                consent=f"c-{number}",
                suppressed=number - 1,
            )
        )
    log.append(record(3, kind="refusal", num_tensors=0, form="values", code="FV-PRIV-003"))
    return path


def test_a_table_and_what_left(site_log: Path, capsys: Capture) -> None:
    assert main(["audit", "show", str(site_log)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    heading, first, _, third, fourth, _, *totals = said.err.splitlines()
    assert heading.split() == [
        *("record", "when", "(UTC)", "what", "run", "round", "whom", "consent", "bytes"),
        *("tensors,", "form,", "details", "digest"),
    ]
    assert "  server (bb)  " in first
    assert first.split()[1:6] == ["2026-01-02", "04:04:05", "received", "(train.finetune)", "r1"]
    assert (
        "server (0123456789ab)  c-2      1,234,567  2 tensors, plain float32, suppressed" in third
    )
    assert third.endswith("suppressed 1  111111111111")
    assert "values, code FV-PRIV-003" in fourth
    left = "What left the building, 2026-01-02 05:04 to 2026-01-02 07:04"
    assert totals == [
        f"{left}: 3 contributions, 2,469,234 bytes, 4 tensors.",
        "  refusal: 1, 100 bytes, 0 tensors",
        "  update: 2, 2,469,134 bytes, 4 tensors",
        "To: server, server (0123456789abcdef).",
        "Under consent: c-1, c-2.",
        "Without a consent: 1.",
    ]


@pytest.mark.parametrize(
    ("words", "records"),
    [
        (["--run", "r1"], [1, 2, 4]),
        (["--kind", "update"], [2, 3]),
        (["--since", "2026-01-02T06:00"], [3, 4]),
        (["--since", "2026-01-02", "--run", "r1", "--kind", "refusal"], [4]),
    ],
)
def test_some_lines_alone(site_log: Path, capsys: Capture, words: list, records: list) -> None:
    assert main(["audit", "show", str(site_log), *words, "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert [event["sequence"] for event in told["events"]] == records
    assert told["left"]["num"] == len({*records} - {1})
    assert told["records"] == 4
    assert told["head"] == verify_log(site_log).head


def test_nothing_that_fits(site_log: Path, capsys: Capture) -> None:
    assert main(["audit", "show", str(site_log), "--kind", "updates"]) == 0
    said = capsys.readouterr().err
    assert "No record fits. Kinds in this log: received, refusal, update." in said
    assert "What left the building: nothing." in said


def test_what_outsiders_wrote_steers_no_terminal(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path).append(
        OperatorOutcome(user="\x1b[2Jeve\n", action="", subject="r1", call="1", code="FV-X")
    )
    assert main(["audit", "show", str(path)]) == 0
    said = capsys.readouterr().err
    assert "?[2Jeve?" in said
    assert "call 1, code FV-X, subject r1" in said
    assert "\x1b" not in said


def test_a_broken_log_is_not_shown(site_log: Path, capsys: Capture) -> None:
    site_log.write_bytes(b"".join(lines_of(site_log)[1:]))
    assert main(["audit", "show", str(site_log), "--json"]) == 4
    assert "What left" not in capsys.readouterr().err


# --- export --------------------------------------------------------------------------------------


def test_an_export(site_log: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "log.csv"
    words = ["audit", "export", str(site_log), "--out", str(out), "--run", "r1", "--json"]
    assert main(words) == 0
    said = capsys.readouterr()
    head = verify_log(site_log).head
    assert f"{out}: 3 of 4 records. Head: {head}" in said.err
    told = json.loads(said.out)
    assert (told["exported"], told["head"], told["left"]["num"]) == (3, head, 2)
    assert out.read_bytes().count(b"\r\n") == 5
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err


# --- compare -------------------------------------------------------------------------------------


@pytest.fixture
def told_log(site_log: Path) -> Path:
    log = AuditLog(site_log, now=clock())
    for number in (1, 2):
        log.append(answer(number, run=f"r{number}"))
    return site_log


def test_two_logs_that_agree(told_log: Path, tmp_path: Path, capsys: Capture) -> None:
    server = AuditLog(tmp_path / "server.jsonl")
    for event in (sent(1), sent(2), reply(1), reply(3, code="FV-TRAN-011")):
        server.append(event)
    words = ["audit", "compare", str(told_log), str(tmp_path / "server.jsonl"), "--json"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "Sent by the site and taken by the server: 1",
        "Sent by the site, not taken by the server: 1",
        f"  {message(2)}  run r2, round 2, train.finetune",
        "Refused by the server, in the site's name but not in its log: 1",
        f"  {message(3)}  run r1, round 3, train.finetune  FV-TRAN-011",
        "Asked by the server and received by the site: 1",
        "Asked by the server, not received by the site: 1",
        f"  {message(-2)}  run r1, round 2, train.finetune",
        "Site site_a: 0 contradictions between the two logs.",
    ]
    assert json.loads(said.out)["contradictions"] == 0


def test_two_logs_that_contradict_each_other(
    told_log: Path, tmp_path: Path, capsys: Capture
) -> None:
    server = AuditLog(tmp_path / "server.jsonl")
    replies = (reply(1, round=5), *(reply(number) for number in range(10, 40)))
    for event in (sent(1), *replies, receipt(2)):
        server.append(event)
    words = ["audit", "compare", str(told_log), str(tmp_path / "server.jsonl"), "--json"]
    assert main(words) == 4
    said = capsys.readouterr()
    assert "CONTRADICTION: taken by the server, never sent by the site: 30" in said.err
    assert "  and 10 more; --json has all" in said.err
    assert "CONTRADICTION: told differently by the two logs: 1" in said.err
    assert f"log does not say it took: 1\n  {message(2)}  run r1, round 2\n" in said.err
    assert json.loads(said.out)["contradictions"] == 32
