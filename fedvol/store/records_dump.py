"""A server's records as lines of JSON, and back into a database of either kind.

The first line names the revision of each component's tables, each other one some rows of a table.
They are read through SQLAlchemy, so what SQLite held can go on in PostgreSQL, and the other way
round. They are put back into tables of the revision that they came from, and those are migrated:
an older backup is read as an older database is.
"""

import base64
import json
from collections.abc import Callable, Generator, Iterable
from datetime import datetime
from itertools import chain
from typing import Any, Final, Literal, TypeVar

from pydantic import ValidationError
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    Table,
    func,
    insert,
    literal,
    select,
)

from fedvol.config.base import Section
from fedvol.errors import BackupError
from fedvol.store.database import UtcTime, migrating, place_of, reading, writing
from fedvol.store.federation_tables import FEDERATION
from fedvol.store.migrations import upgrade
from fedvol.store.schema import held_revision, require_known, require_no_tables
from fedvol.store.tables import RUNS

_SERVER: Final = (FEDERATION, RUNS)
_ROWS_A_LINE: Final = 100

_Kind = Literal["moment", "bytes", "plain"]


class _Revisions(Section):
    """The first line."""

    revisions: dict[str, str]


class _Rows(Section):
    """Any other line."""

    table: str
    columns: dict[str, _Kind]
    rows: tuple[tuple[Any, ...], ...]


_Read = TypeVar("_Read", _Revisions, _Rows)


def dump_records(engine: Engine, *, beside: Callable[[], None]) -> Generator[bytes]:
    """Every record of a server as it is at one moment.

    Args:
        engine: From `open_engine`; its tables are up to date.
        beside: Called at that moment, while nobody can write a record; it must be quick.

    Yields:
        Lines, each with its end.

    Raises:
        StoreError: The database cannot be read, or another process writes for too long.
    """
    with reading(engine) as session:
        with writing(engine) as writer:
            writer.execute(select(literal(1)))  # takes the writers' lock
            connection = session.connection()
            revisions = {one.name: held_revision(connection, one) for one in _SERVER}
            beside()
        yield _line({"revisions": revisions})
        for table in chain.from_iterable(one.metadata.sorted_tables for one in _SERVER):
            columns = {column.name: _kind(column) for column in table.columns}
            found = session.execute(
                select(table).order_by(*table.primary_key),
                execution_options={"yield_per": _ROWS_A_LINE},
            )
            for rows in found.partitions():
                written = [[_as_json(value) for value in row] for row in rows]
                yield _line({"table": table.name, "columns": columns, "rows": written})


def load_records(engine: Engine, lines: Iterable[bytes]) -> None:
    """Put a server's records into an empty database: all of them, or none.

    Args:
        engine: From `open_engine`.
        lines: What `dump_records` gave.

    Raises:
        BackupError: They are not what it gave.
        SchemaVersionError: They are of a newer fedvol.
        StoreError: The database is not empty, or cannot be written.
    """
    read = iter(lines)
    revisions = _parsed(_Revisions, next(read, b"")).revisions
    if set(revisions) != {one.name for one in _SERVER}:
        raise _damaged("they are not those of a server")
    with migrating(engine) as connection:
        require_no_tables(connection, where=place_of(engine))
        for component in _SERVER:
            require_known(component, revisions[component.name], where="the backup")
            upgrade(connection, revisions[component.name])
        _fill(connection, (_parsed(_Rows, line) for line in read))
        for component in _SERVER:
            upgrade(connection, f"{component.name}@head")


def _fill(connection: Connection, batches: Iterable[_Rows]) -> None:
    """Insert rows into the tables as they are in the database now, which may be older than ours."""
    held = MetaData()
    held.reflect(connection)
    for batch in batches:
        table = held.tables.get(batch.table)
        if table is None or not set(batch.columns) <= set(table.columns.keys()):
            raise _damaged("they name a table or column that there is not")
        try:
            values = [
                {
                    name: _from_json(value, kind)
                    for (name, kind), value in zip(batch.columns.items(), row, strict=True)
                }
                for row in batch.rows
            ]
        except (TypeError, ValueError) as error:
            raise _damaged(f"a row of {batch.table} cannot be read") from error
        connection.execute(insert(table), values)
    if connection.dialect.name == "postgresql":
        for table in held.tables.values():
            _count_on(connection, table)


def _count_on(connection: Connection, table: Table) -> None:
    """Let PostgreSQL number new rows after those that were put in with their numbers."""
    for column in table.primary_key:
        sequence = connection.scalar(select(func.pg_get_serial_sequence(table.name, column.name)))
        if sequence is not None:
            last = select(func.coalesce(func.max(column), 0) + 1).scalar_subquery()
            connection.execute(select(func.setval(sequence, last, literal(False))))


def _kind(column: Column[Any]) -> _Kind:
    match column.type:
        case UtcTime():
            return "moment"
        case LargeBinary():
            return "bytes"
        case _:
            return "plain"


def _as_json(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return value


def _from_json(value: Any, kind: _Kind) -> Any:
    if value is None or kind == "plain":
        return value
    return datetime.fromisoformat(value) if kind == "moment" else base64.b64decode(value)


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _parsed(form: type[_Read], line: bytes) -> _Read:
    try:
        return form.model_validate_json(line)
    except ValidationError as error:
        raise _damaged("a line cannot be read") from error


def _damaged(what: str) -> BackupError:
    return BackupError("the backup's records", what, "Use another backup.")
