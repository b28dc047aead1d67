"""One way to open a database, and to read and write it so that every failure has our own name."""

import sqlite3
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import (
    DateTime,
    Dialect,
    Engine,
    TypeDecorator,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from fedvol.errors import DiskFullError, StoreError

_BUSY_TIMEOUT_MS = 10_000
_CONNECT_TIMEOUT_S = 10
_LOCKED_NAMES = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_BUSY_SNAPSHOT"})
_DAMAGED_NAMES = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})
_FULL_NAMES = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"})
"""The second: the index beside the write-ahead log could not grow."""
_READING: Mapping[str, Mapping[str, str]] = {"postgresql": {"isolation_level": "REPEATABLE READ"}}
"""SQLite reads one moment by itself."""
_POSTGRES_DISK_FULL = "53100"
_POSTGRES_LOCKED = "55P03"
_POSTGRES_WRITERS = 0x666564766F6C
"""Whoever holds the advisory lock of this number (`fedvol` in ASCII) is the one writer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """Where a database is.

    Attributes:
        url: `sqlite:///FILE` or `postgresql+psycopg://USER@HOST/NAME`.
        password_file: File with its password, for its owner's eyes alone; None: it wants none, or
            its driver knows it.
    """

    url: str
    password_file: Path | None = None


def open_engine(place: str | Path | StoreAddress) -> Engine:
    """Open a database; a path, or a text without `://`, is an SQLite file made where absent.

    SQLite runs with a write-ahead log, full synchronisation and foreign keys, so that what was
    committed outlives a killed process. PostgreSQL is held to what SQLite does by itself: one
    writer at a time, and readers who see one moment. Call `prepare_schema` next.

    Raises:
        StoreError: The file is no database, is damaged or locked, or the server is unreachable.
        DiskFullError: No space is left.
    """
    url = _url(place)
    engine = _engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "begin", _begin_postgresql)
    try:
        if url.get_backend_name() == "sqlite" and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, sqlite3.Error) as error:
        engine.dispose()
        if engine.dialect.name == "postgresql" and isinstance(error, OperationalError):
            raise _unreachable(engine, error) from error
        raise _store_error(engine, error) from error
    except OSError as error:
        raise StoreError(
            place_of(engine),
            error.strerror or "cannot be opened",
            "Check the path and its permissions.",
        ) from error
    return engine


def place_of(engine: Engine) -> str:
    """How messages call a database; a password is not shown."""
    if engine.dialect.name == "sqlite" and engine.url.database:
        return engine.url.database
    return engine.url.render_as_string(hide_password=True)


@contextmanager
def reading(engine: Engine) -> Generator[Session, None, None]:
    """One consistent look at the database.

    Raises:
        StoreError: The database is damaged, locked or unreachable.
    """
    try:
        with Session(engine.execution_options(**_READING.get(engine.dialect.name, {}))) as session:
            yield session
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _store_error(engine, error) from error


@contextmanager
def writing(engine: Engine) -> Generator[Session, None, None]:
    """One transaction: all of it is durable when the block ends, or none of it if it raises.

    Raises:
        DiskFullError: No space is left.
        StoreError: The database is damaged, locked or unreachable, or a record contradicts another.
    """
    try:
        with Session(engine.execution_options(fedvol_writes=True)) as session, session.begin():
            yield session
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _store_error(engine, error) from error


@contextmanager
def migrating(engine: Engine) -> Generator[Connection, None, None]:
    """A writer's transaction in which tables may be replaced: foreign keys hold again at its end.

    Raises:
        DiskFullError: No space is left.
        StoreError: The database is damaged, locked or unreachable, or records contradict others.
    """
    try:
        with engine.connect() as connection:
            connection.detach()  # SQLite's foreign keys stay off: nobody uses it afterwards
            connection.execution_options(fedvol_writes=True, fedvol_migrates=True)
            with connection.begin():
                yield connection
                _require_foreign_keys(connection)
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise _store_error(engine, error) from error


class UtcTime(TypeDecorator[datetime]):
    """A moment, kept in UTC whatever the database makes of time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a moment without a zone; store the rest in UTC."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give every moment its zone back."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _url(place: str | Path | StoreAddress) -> URL:
    if isinstance(place, StoreAddress):
        url = _url(place.url)
        if place.password_file is None:
            return url
        return url.set(password=read_password(place.password_file))
    if isinstance(place, Path) or "://" not in place:
        return URL.create("sqlite", database=str(place))
    try:
        return make_url(place)
    except ArgumentError as error:
        raise StoreError(
            "store address",
            "not an address of a database",
            "Write sqlite:///FILE or postgresql+psycopg://HOST/NAME.",
        ) from error


def read_password(path: Path) -> str:
    """The password in a file.

    Raises:
        StoreError: The file is absent, empty, or others can read it.
    """
    try:
        is_open = bool(path.stat().st_mode & 0o077)
        password = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            str(path), "the password cannot be read", "Check the file and its permissions."
        ) from error
    if is_open or not password:
        what = "others can read the password" if is_open else "there is no password in it"
        raise StoreError(str(path), what, f"Write it there, then: chmod 600 {path}")
    return password


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return create_engine(url)
    try:
        # A connection may have died since it was last used, with the database's server.
        return create_engine(
            url, pool_pre_ping=True, connect_args={"connect_timeout": _CONNECT_TIMEOUT_S}
        )
    except ImportError as error:
        raise StoreError(
            url.render_as_string(hide_password=True),
            "the driver of PostgreSQL is not installed",
            "Install fedvol with its extra: pip install 'fedvol[postgres]'.",
        ) from error


def _configure_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`
    cursor = connection.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
    finally:
        cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: to read first and write later could fail half-way.
    options = connection.get_execution_options()
    if options.get("fedvol_migrates", False):
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")  # has no effect within a transaction
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("fedvol_writes") else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get("fedvol_writes", False):
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_BUSY_TIMEOUT_MS}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_POSTGRES_WRITERS})")


def _require_foreign_keys(connection: Connection) -> None:
    """PostgreSQL has them at all times; SQLite looks at them now."""
    if connection.dialect.name != "sqlite":
        return
    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall():
        raise StoreError(
            place_of(connection.engine),
            f"{len(broken)} records of table {broken[0][0]} would name others that are not there",
            "Nothing was changed; report it, and go on with the fedvol that made the database.",
        )


def _unreachable(engine: Engine, error: OperationalError) -> StoreError:
    """What the driver says before there is a connection holds no record, and no password."""
    said = str(error.orig).splitlines()[0].strip()
    return StoreError(
        place_of(engine),
        f"the database cannot be reached ({said})",
        "Check its address and password, and that it runs.",
    )


def _store_error(engine: Engine, error: SQLAlchemyError | sqlite3.Error) -> StoreError:
    where = place_of(engine)
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = str(getattr(cause, "sqlite_errorname", ""))
    if name in _FULL_NAMES or getattr(cause, "sqlstate", "") == _POSTGRES_DISK_FULL:
        return DiskFullError(
            where,
            "no space left for the database",
            "Free some space and start again with --resume.",
        )
    if name in _LOCKED_NAMES or getattr(cause, "sqlstate", "") == _POSTGRES_LOCKED:
        return StoreError(where, "locked by another process", "End that process, then try again.")
    if name in _DAMAGED_NAMES:
        return StoreError(
            where, "not a database, or damaged", "Restore it from a copy, or use a new folder."
        )
    return StoreError(
        where,
        f"database failed ({type(cause).__name__})",
        "Check that it is there and can be written.",
    )
