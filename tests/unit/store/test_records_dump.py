"""What a server has recorded, out of one database and into another of the same or another kind."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from postgresql import PostgreSQL
from sqlalchemy import JSON, Column, Engine, insert, select, text

from fedvol.errors import BackupError, SchemaVersionError, StoreError
from fedvol.store import FederationStore, Role, RunStore, dump_records, load_records, open_engine
from fedvol.store.database import UtcTime, reading, writing
from fedvol.store.federation_tables import FEDERATION, UserRow
from fedvol.store.tables import RUNS

TABLES = [*FEDERATION.metadata.sorted_tables, *RUNS.metadata.sorted_tables]
MOMENT = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def nothing() -> None:
    """Happens beside."""


def value(column: Column[Any], *, row: int) -> object:
    """Something that no other row has; equal in all columns, so that keys fit."""
    if column.nullable and row == 2:
        return None
    made: dict[type, object] = {
        str: f"row {row} 'é\n",
        int: row,
        float: 0.1 * row,
        bytes: bytes([0, 255, row]),
        list: [f"site-{row}", "ü"],
    }
    if isinstance(column.type, UtcTime):
        return MOMENT + timedelta(days=row)
    return made[list if isinstance(column.type, JSON) else column.type.python_type]


@pytest.fixture
def new_engine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Engine]]:
    """Opens a new database of a kind."""
    opened: list[Engine] = []

    def open_new(kind: str) -> Engine:
        if kind == "sqlite":
            opened.append(open_engine(tmp_path / f"{len(opened)}.db"))
        else:
            server: PostgreSQL = request.getfixturevalue("postgresql")
            opened.append(open_engine(server.url(server.new_place())))
        return opened[-1]

    yield open_new
    for engine in opened:
        engine.dispose()


def filled(engine: Engine) -> Engine:
    FederationStore(engine)
    RunStore(engine)
    with writing(engine) as session:
        for table in TABLES:
            for row in (1, 2):
                values = {column.name: value(column, row=row) for column in table.columns}
                session.execute(insert(table).values(values))
    return engine


def content(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """Every row as the program reads it."""
    with reading(engine) as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table))] for table in TABLES
        }


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
@pytest.mark.parametrize("source", ["sqlite", "postgresql"])
def test_every_record_goes_over(
    source: str, target: str, new_engine: Callable[..., Engine]
) -> None:
    before, after = filled(new_engine(source)), new_engine(target)
    load_records(after, dump_records(before, beside=nothing))
    assert content(after) == content(before)
    assert all(len(rows) == 2 for rows in content(after).values())
    # It is a server's database now, in which new rows are numbered on.
    store = FederationStore(after)
    store.people.record(user="ada", action="a", subject="b", outcome="done")
    store.people.add("ada", role=Role.OPERATOR, token="0")
    assert [one.user for one in store.people.actions()][-1] == "ada"
    with pytest.raises(StoreError, match="holds records already"):
        load_records(after, dump_records(before, beside=nothing))


def test_the_moment_is_one(database: str | Path, tmp_path: Path) -> None:
    engine = filled(open_engine(database))
    second = open_engine(database)
    tried: list[str] = []

    def add(name: str) -> None:
        with writing(second) as session:
            session.execute(text("SELECT 1"))
            row = {"name": name, "role": "observer", "token_digest": name, "created": MOMENT}
            session.execute(insert(UserRow).values(row))

    def beside() -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("fedvol.store.database._BUSY_TIMEOUT_MS", 1)
            second.dispose()
            with pytest.raises(StoreError, match="locked"):
                add("meanwhile")
        second.dispose()
        tried.append("meanwhile")

    lines = dump_records(engine, beside=beside)
    first = next(lines)
    add("afterwards")
    read = b"".join([first, *lines])
    assert tried == ["meanwhile"]
    assert b"row 1" in read
    assert b"afterwards" not in read
    for one in (engine, second):
        one.dispose()


def changed(lines: list[bytes], change: Callable[[dict[str, Any]], None]) -> list[bytes]:
    """The same with the rows of users, or the first line, changed."""
    found = [json.loads(line) for line in lines]
    change(next(one for one in found if one.get("table") == "users"))
    return [json.dumps(one).encode() for one in found]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one.update(table="strangers"), "table or column"),
        (lambda one: one["columns"].update(strange="plain"), "table or column"),
        (lambda one: one["rows"][1].pop(), "a row of users"),
        (lambda one: one["columns"].update(name="bytes"), "a row of users"),
        (lambda one: one.update(more=1), "a line cannot be read"),
    ],
)
def test_damaged_records_leave_nothing(
    change: Callable[[dict[str, Any]], None], said: str, new_engine: Callable[..., Engine]
) -> None:
    lines = list(dump_records(filled(new_engine("sqlite")), beside=nothing))
    target = new_engine("sqlite")
    with pytest.raises(BackupError, match=said):
        load_records(target, changed(lines, change))
    load_records(target, lines)  # it is as empty as it was


def test_what_is_no_backup_or_of_a_newer_fedvol(new_engine: Callable[..., Engine]) -> None:
    target = new_engine("sqlite")
    for lines in ([], [b"\xff"], [b'{"revisions": {}}']):
        with pytest.raises(BackupError):
            load_records(target, lines)
    newer = b'{"revisions": {"runs": "runs_0999", "federation": "federation_0001"}}'
    with pytest.raises(SchemaVersionError, match="runs_0999"):
        load_records(target, [newer])
