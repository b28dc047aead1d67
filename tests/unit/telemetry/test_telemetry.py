"""Events reach every observer; the event file holds whole lines; logs name no patient."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from fedvol.errors import DiskFullError, StoreError
from fedvol.telemetry import Broadcast, JsonLines, set_up_logging

NOON = datetime(2024, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)


class Notes:
    def __init__(self, name: str, book: list[tuple[str, str, dict[str, Any]]]) -> None:
        self._name = name
        self._book = book

    def event(self, name: str, /, **fields: Any) -> None:
        self._book.append((self._name, name, fields))


def test_broadcast_keeps_order() -> None:
    book: list[tuple[str, str, dict[str, Any]]] = []
    Broadcast([Notes("a", book), Notes("b", book)]).event("run.started", name="x")
    assert book == [("a", "run.started", {"name": "x"}), ("b", "run.started", {"name": "x"})]


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "new" / "events.jsonl"
    with JsonLines(path, now=lambda: NOON) as lines:
        lines.event("run.started", name="x", sites=["b", "a"])
        assert path.read_text().endswith("\n"), "a line is on disk at once"
        lines.event("site.training", loss=float("nan"), more=[float("inf"), {"z": 1.5}])
    first, second = path.read_text().splitlines()
    assert first == (
        '{"time": "2024-05-01T12:00:00.250Z", "event": "run.started", '
        '"name": "x", "sites": ["b", "a"]}'
    )
    assert json.loads(second)["loss"] is None
    assert json.loads(second)["more"] == [None, {"z": 1.5}]


@pytest.mark.parametrize("cut", ["", '{"time": "20', "x" * 200_000, '{"a": 1}\n{"b'])
def test_continues_after_a_cut_line(tmp_path: Path, cut: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(f'{{"n": 0}}\n{cut}')
    with JsonLines(path) as lines:
        lines.event("next")
    parsed = [json.loads(line) for line in path.read_text().splitlines()]
    assert parsed[0] == {"n": 0}
    assert parsed[-1]["event"] == "next"
    assert len(parsed) == 2 + cut.count("\n")


def test_no_space() -> None:
    with pytest.raises(DiskFullError), JsonLines(Path("/dev/full")) as lines:
        lines.event("x")


def test_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        JsonLines(tmp_path / "file" / "events.jsonl")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    set_up_logging(stream, level=logging.DEBUG)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_log_drops_personal_fields(log: io.StringIO) -> None:
    logger = structlog.get_logger("fedvol.test")
    logger.info("case.skipped", case="0042", subject="s7", path="/x", code="FV-DATA-007")
    line = log.getvalue()
    assert "code=FV-DATA-007" in line
    assert "event=case.skipped" in line
    assert "0042" not in line
    assert "s7" not in line


def test_log_keeps_them_for_debugging(log: io.StringIO) -> None:
    structlog.get_logger("fedvol.test").debug("case.skipped", case="0042")
    assert "case=0042" in log.getvalue()


def test_library_records_come_along(log: io.StringIO) -> None:
    logging.getLogger("some.library").warning("watch out")
    assert 'level=warning logger=some.library event="watch out"' in log.getvalue()
