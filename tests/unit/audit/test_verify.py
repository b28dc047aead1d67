"""What `verify_log` finds, and by which line it names it."""

import json
from pathlib import Path

import pytest
from audit_logs import NEVER, Signer, clock, lines_of, record, written
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.audit import AuditLog, KnownHead, verify_log
from fedvol.errors import AuditError, UsageError


def _changed(lines: list[bytes], index: int = 1) -> list[bytes]:
    line = lines[index].replace(b'"suppressed":0', b'"suppressed":9')
    return [*lines[:index], line, *lines[index + 1 :]]


TAMPERED = [
    ("changed", _changed, 2, "record 2, or the one before it, was changed"),
    ("removed", lambda ls: [ls[0], *ls[2:]], 2, "record 2 was removed or moved; record 3 stands"),
    ("first removed", lambda ls: ls[1:], 1, "record 1 was removed"),
    ("moved up", lambda ls: [ls[1], ls[0], *ls[2:]], 1, "record 2 stands in its place"),
    ("moved down", lambda ls: [ls[0], ls[2], ls[1], ls[3]], 2, "nor do these lines fit: 3, 4"),
    ("repeated", lambda ls: [*ls[:2], ls[1], *ls[2:]], 3, "record 2 stands here"),
    ("empty line", lambda ls: [*ls[:3], b"\n", ls[3]], 4, "no line of an audit log"),
    ("other spelling", lambda ls: [ls[0], ls[1].replace(b":", b": ", 1), *ls[2:]], 2, "changed"),
    ("cut", lambda ls: [*ls[:3], ls[3][:40] + b"\n"], 4, "no line"),
    ("torn", lambda ls: [*ls[:3], ls[3][:40]], 4, "the line is torn"),
    ("no UTF-8", lambda ls: [*ls[:2], b"\xff\xfe\n", *ls[2:]], 3, "no line"),
    ("no JSON", lambda ls: [*ls[:2], b"[" * 100_000 + b"\n", *ls[2:]], 3, "no line"),
    ("hash in capitals", lambda ls: [ls[0][:-67] + ls[0][-67:].upper(), *ls[1:]], 1, "changed"),
]


@pytest.mark.parametrize(
    ("tamper", "line", "what"), [row[1:] for row in TAMPERED], ids=[row[0] for row in TAMPERED]
)
def test_tampering_is_named_and_nothing_is_appended(
    tmp_path: Path, tamper, line: int, what: str
) -> None:
    path = written(tmp_path / "audit.jsonl")
    path.write_bytes(b"".join(tamper(lines_of(path))))
    before = path.read_bytes()
    with pytest.raises(AuditError, match=f"line {line}: .*{what}"):
        verify_log(path)
    if what != "the line is torn":
        with pytest.raises(AuditError, match=f"line {line}: "):
            AuditLog(path)
        assert path.read_bytes() == before


def test_every_line_that_does_not_fit_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl", 60)
    lines = lines_of(path)
    path.write_bytes(b"".join([*_changed(lines, 3)[:10], *lines[11:]]))
    with pytest.raises(AuditError, match=r"line 4: .*nor do these lines fit: 11\."):
        verify_log(path)
    path.write_bytes(b"".join(line[:-80] + b"\n" for line in lines))
    with pytest.raises(AuditError, match=r"line 1: .*: 2, 3, .*, 21 and 39 others"):
        verify_log(path)


def test_lines_before_the_first_misfit_are_given_and_none_after(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl", 5)
    path.write_bytes(b"".join(_changed(lines_of(path), 2)))
    taken: list[int] = []
    with pytest.raises(AuditError):
        verify_log(path, take=lambda line: taken.append(line.end.records))
    assert taken == [1, 2]


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes], KnownHead]:
    """A file to write to, the lines of a signed log, and its head."""
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    lines = lines_of(written(path, 5, signer=Signer(), cadence=NEVER))
    return path, lines, KnownHead.model_validate_json(json.dumps(verify_log(path).as_json()))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(signed: tuple, data: st.DataObject) -> None:
    path, lines, _ = signed
    content = bytearray(b"".join(lines))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(AuditError):
        verify_log(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_other_order_choice_or_number_of_lines_is_found(
    signed: tuple, data: st.DataObject
) -> None:
    """Only what is cut off the end leaves a log that fits; it shows against what was noted."""
    path, lines, known = signed
    order = data.draw(st.lists(st.integers(0, 5), max_size=8).filter(lambda o: o != [*range(6)]))
    path.write_bytes(b"".join(lines[index] for index in order))
    if order == [*range(len(order))]:
        assert verify_log(path).records == len(order)
    else:
        with pytest.raises(AuditError):
            verify_log(path)
    with pytest.raises(AuditError):
        verify_log(path, against=known)


def test_lines_cut_off_the_end_show_against_what_was_noted(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl", 6, signer=Signer())
    noted = tmp_path / "noted.json"
    noted.write_text(f"words\n{json.dumps({'file': 'x', **verify_log(path).as_json()})}\n")
    written(path, 2)
    assert verify_log(path, against=KnownHead.load(noted)).records == 9
    for left in (6, 0):
        path.write_bytes(b"".join(lines_of(path)[:left]))
        with pytest.raises(AuditError, match=f"after line {left}: the log was cut: it had 7 lines"):
            verify_log(path, against=KnownHead.load(noted))


def test_a_log_written_anew_shows_against_what_was_noted(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl", 6)
    summary = verify_log(path)
    path.unlink()
    log = AuditLog(path, now=clock())
    for index in range(8):
        log.append(record(index, size_bytes=1))
    known = KnownHead(records=summary.records, head=summary.head)
    with pytest.raises(AuditError, match="line 6 or before: the log was written anew"):
        verify_log(path, against=known)


def test_an_empty_log_fits_everything_and_every_log_fits_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    AuditLog(path, signer=Signer()).close()
    empty = verify_log(path, keys=[Signer().public.hex])
    assert (empty.records, empty.head, empty.checkpoint) == (0, "0" * 64, None)
    known = KnownHead(records=0, head=empty.head)
    assert verify_log(written(path, 2), against=known).records == 2


def test_with_a_key_each_checkpoint_must_be_its(tmp_path: Path) -> None:
    path, owner = tmp_path / "audit.jsonl", Signer()
    written(path, 3, signer=owner)
    written(path, 1, signer=Signer("stranger"))
    assert verify_log(path).num_checkpoints == 2
    with pytest.raises(AuditError, match=f"line 6: .*another key, {Signer('stranger').public.hex}"):
        verify_log(path, keys=[owner.public.hex])


def test_with_a_key_a_log_without_checkpoints_does_not_verify(tmp_path: Path) -> None:
    """Else whoever writes a log anew would only have to leave them out."""
    path = written(tmp_path / "audit.jsonl", 3)
    with pytest.raises(AuditError, match="nothing in it is signed"):
        verify_log(path, keys=[Signer().public.hex])


def test_a_log_can_be_verified_while_others_append(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl", 3)
    log = AuditLog(path)
    summary = verify_log(path, take=lambda _: log.append(record()))
    assert summary.records == 3
    assert verify_log(path).records == 6


def test_no_such_log(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="cannot be read"):
        verify_log(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "words",
        "[]",
        "{}",
        '{"records":1,"head":1}',
        '{"records":1,"head":"0"}',
        '{"records":-1,"head":"' + "0" * 64 + '"}',
        '{"records":"1","head":"' + "0" * 64 + '"}',
    ],
)
def test_a_noted_head_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "noted.json").write_text(text)
    with pytest.raises(UsageError, match="states no head"):
        KnownHead.load(tmp_path / "noted.json")


def test_a_noted_head_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        KnownHead.load(tmp_path / "absent.json")
