import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine, LargeBinary, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fedvol.errors import DiskFullError, SchemaVersionError, StoreError
from fedvol.store.database import UtcTime, open_engine, prepare_schema, reading, writing


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    when: Mapped[datetime | None] = mapped_column(UtcTime)


@pytest.fixture
def engine(tmp_path: Path):
    engine = open_engine(tmp_path / "deep" / "a.db")
    prepare_schema(engine, component="notes", version=1, metadata=Base.metadata)
    yield engine
    engine.dispose()


def test_sqlite_is_set_up_to_outlive_a_kill(engine: Engine) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
    with engine.connect() as connection:
        found = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in wanted}
    assert found == wanted


@pytest.mark.parametrize("as_url", [True, False])
def test_opens_path_and_url_alike(tmp_path: Path, as_url: bool) -> None:
    path = tmp_path / "a.db"
    engine = open_engine(f"sqlite:///{path}" if as_url else path)
    engine.dispose()
    assert path.is_file()


def test_transaction_is_whole_or_not_at_all(engine: Engine) -> None:
    with writing(engine) as session:
        session.add(Note(id=1, body=b"kept"))
    with pytest.raises(RuntimeError), writing(engine) as session:
        session.add(Note(id=2, body=b"lost"))
        session.flush()
        raise RuntimeError
    with reading(engine) as session:
        assert [note.id for note in session.query(Note)] == [1]


def test_time_keeps_its_moment(engine: Engine) -> None:
    moment = datetime(2026, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    with writing(engine) as session:
        session.add(Note(id=1, body=b"", when=moment))
    with reading(engine) as session:
        found = session.get_one(Note, 1).when
    assert found == moment
    assert found.tzinfo is UTC
    with pytest.raises(StoreError), writing(engine) as session:
        session.add(Note(id=2, body=b"", when=datetime(2026, 5, 1)))  # noqa: DTZ001  # refused


def test_schema_of_another_version_is_refused(engine: Engine) -> None:
    prepare_schema(engine, component="notes", version=1, metadata=Base.metadata)
    with pytest.raises(SchemaVersionError, match="version 1, this fedvol writes 2"):
        prepare_schema(engine, component="notes", version=2, metadata=Base.metadata)


@pytest.mark.parametrize(
    "content", [b"not a database" * 500, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_damaged_file_is_a_store_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.db: not a database, or damaged"):
        open_engine(path)


def test_locked_database_is_a_store_error(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("PRAGMA busy_timeout=1"))
    other = sqlite3.connect(engine.url.database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        locked = pytest.raises(StoreError, match="locked by another process")
        with locked, writing(engine) as session:
            session.execute(text("SELECT 1"))
    finally:
        other.close()


def test_full_disk_is_named(engine: Engine) -> None:
    with pytest.raises(DiskFullError, match="FV-STORE-004"), writing(engine) as session:
        session.execute(text("PRAGMA max_page_count=1"))
        session.add(Note(id=1, body=bytes(1 << 20)))
    with reading(engine) as session:
        assert session.query(Note).count() == 0


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        open_engine(tmp_path / "file" / "a.db")


def test_senseless_address() -> None:
    with pytest.raises(StoreError, match="not an address"):
        open_engine("://")


def test_password_is_not_shown(monkeypatch) -> None:
    from sqlalchemy import create_engine

    from fedvol.store import database

    engine = create_engine("sqlite://")
    monkeypatch.setattr(
        engine, "url", database.make_url("postgresql://fedvol:secret@db.example/fedvol")
    )
    monkeypatch.setattr(engine.dialect, "name", "postgresql")
    assert "secret" not in database._where(engine)
