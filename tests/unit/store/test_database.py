import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine, LargeBinary, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fedvol.errors import DiskFullError, StoreError
from fedvol.store.database import StoreAddress, UtcTime, open_engine, reading, writing

Pair = tuple[Engine, Engine]


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
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def either(database: str | Path):
    """A database of each kind, opened twice, as two processes would."""
    first, second = open_engine(database), open_engine(database)
    Base.metadata.create_all(first)
    yield first, second
    first.dispose()
    second.dispose()


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


def test_transaction_is_whole_or_not_at_all(either: Pair) -> None:
    engine, _ = either
    with writing(engine) as session:
        session.add(Note(id=1, body=b"kept"))
    with pytest.raises(RuntimeError), writing(engine) as session:
        session.add(Note(id=2, body=b"lost"))
        session.flush()
        raise RuntimeError
    with reading(engine) as session:
        assert [note.id for note in session.query(Note)] == [1]


def test_time_keeps_its_moment(either: Pair) -> None:
    engine, _ = either
    moment = datetime(2026, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))
    with writing(engine) as session:
        session.add(Note(id=1, body=b"", when=moment))
    with reading(engine) as session:
        found = session.get_one(Note, 1).when
    assert found == moment
    assert found.tzinfo is UTC
    with pytest.raises(StoreError), writing(engine) as session:
        session.add(Note(id=2, body=b"", when=datetime(2026, 5, 1)))  # noqa: DTZ001  # refused


@pytest.mark.parametrize(
    "content", [b"not a database" * 500, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_damaged_file_is_a_store_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.db: not a database, or damaged"):
        open_engine(path)


def test_one_writer_at_a_time(either: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = either
    monkeypatch.setattr("fedvol.store.database._BUSY_TIMEOUT_MS", 1)
    if second.dialect.name == "sqlite":
        second.dispose()  # the next connection is told the shorter wait
    with writing(first) as session:
        session.add(Note(id=1, body=b""))
        session.flush()
        locked = pytest.raises(StoreError, match="locked by another process")
        with locked, writing(second) as other:
            other.add(Note(id=2, body=b""))
            other.flush()
    with writing(second) as session:
        session.add(Note(id=3, body=b""))
    with reading(first) as session:
        assert sorted(note.id for note in session.query(Note)) == [1, 3]


def test_a_reader_sees_one_moment(either: Pair) -> None:
    first, second = either
    with reading(first) as session:
        assert session.query(Note).count() == 0
        with writing(second) as other:
            other.add(Note(id=1, body=b""))
        assert session.query(Note).count() == 0
    with reading(first) as session:
        assert session.query(Note).count() == 1


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


def test_unreachable_server_is_named_without_its_password(tmp_path: Path) -> None:
    address = f"postgresql+psycopg://fedvol:secret@/fedvol?host={tmp_path}"
    with pytest.raises(StoreError, match=r"cannot be reached .*No such file") as failed:
        open_engine(address)
    assert "fedvol:***@/fedvol" in str(failed.value)
    assert "secret" not in str(failed.value)


def test_wrong_password_is_named(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("postgresql")
    address = server.url("public").replace(server.password, "guessed")
    with pytest.raises(StoreError, match="password authentication failed") as failed:
        open_engine(address)
    assert "guessed" not in str(failed.value)


def test_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'fedvol\[postgres\]'"):
        open_engine("postgresql+psycopg:///fedvol")


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (None, 0o600, "cannot be read"),
        ("\n", 0o600, "there is no password"),
        ("secret", 0o640, "others can read"),
    ],
)
def test_password_file_that_does_not_do(
    tmp_path: Path, content: str | None, mode: int, said: str
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(StoreError, match=said):
        open_engine(StoreAddress(url="postgresql+psycopg:///fedvol", password_file=path))
