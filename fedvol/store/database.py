"""One way to open a database, and to read and write it so that every failure has our own name."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import (
    DateTime,
    Dialect,
    Engine,
    MetaData,
    TypeDecorator,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import ConnectionPoolEntry

from fedvol.errors import DiskFullError, SchemaVersionError, StoreError

_BUSY_TIMEOUT_MS = 10_000
_LOCKED_NAMES = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_BUSY_SNAPSHOT"})
_DAMAGED_NAMES = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})
_FULL_NAMES = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"})
"""The second: the index beside the write-ahead log could not grow."""
_POSTGRES_DISK_FULL = "53100"


def open_engine(url_or_path: str | Path) -> Engine:
    """Open a database; a path, or a text without `://`, is an SQLite file made where absent.

    SQLite runs with a write-ahead log, full synchronisation and foreign keys, so that what was
    committed outlives a killed process. Call `prepare_schema` next.

    Raises:
        StoreError: The file is no database, is damaged or locked, or the server is unreachable.
        DiskFullError: No space is left.
    """
    url = _url(url_or_path)
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        if url.get_backend_name() == "sqlite" and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, sqlite3.Error) as error:
        engine.dispose()
        raise _store_error(engine, error) from error
    except OSError as error:
        raise StoreError(
            str(url_or_path),
            error.strerror or "cannot be opened",
            "Check the path and its permissions.",
        ) from error
    return engine


def prepare_schema(engine: Engine, *, component: str, version: int, metadata: MetaData) -> None:
    """Make a component's tables where they are absent; refuse those of another version.

    Args:
        engine: Where the tables live.
        component: Which group of tables, such as `runs`; each has a version of its own.
        version: Version of the tables in `metadata`.
        metadata: The component's tables.

    Raises:
        SchemaVersionError: The tables were made by another version of fedvol.
        StoreError: The database cannot be written.
    """
    with writing(engine) as session:
        connection = session.connection()
        _VersionBase.metadata.create_all(connection)
        row = session.get(_SchemaVersion, component)
        if row is None:
            metadata.create_all(connection)
            session.add(_SchemaVersion(component=component, version=version))
        elif row.version != version:
            raise SchemaVersionError(
                _where(engine),
                f"its {component} tables have version {row.version}, this fedvol writes {version}",
                "Use the fedvol version that made the database, or a new folder.",
            )


@contextmanager
def reading(engine: Engine) -> Generator[Session, None, None]:
    """One consistent look at the database.

    Raises:
        StoreError: The database is damaged, locked or unreachable.
    """
    try:
        with Session(engine) as session:
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


class _VersionBase(DeclarativeBase):
    pass


class _SchemaVersion(_VersionBase):
    __tablename__ = "schema_version"
    component: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]


def _url(url_or_path: str | Path) -> URL:
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        return URL.create("sqlite", database=str(url_or_path))
    try:
        return make_url(url_or_path)
    except ArgumentError as error:
        raise StoreError(
            "store address",
            "not an address of a database",
            "Write sqlite:///FILE or postgresql+psycopg://HOST/NAME.",
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
    writes = connection.get_execution_options().get("fedvol_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _where(engine: Engine) -> str:
    if engine.dialect.name == "sqlite" and engine.url.database:
        return engine.url.database
    return engine.url.render_as_string(hide_password=True)


def _store_error(engine: Engine, error: SQLAlchemyError | sqlite3.Error) -> StoreError:
    where = _where(engine)
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = str(getattr(cause, "sqlite_errorname", ""))
    if name in _FULL_NAMES or getattr(cause, "sqlstate", "") == _POSTGRES_DISK_FULL:
        return DiskFullError(
            where,
            "no space left for the database",
            "Free some space and start again with --resume.",
        )
    if name in _LOCKED_NAMES:
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
