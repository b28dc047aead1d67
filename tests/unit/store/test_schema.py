"""Tables are made, taken over and migrated; on SQLite and on PostgreSQL."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, ForeignKey, MetaData, String, inspect, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fedvol.errors import SchemaVersionError, StoreError
from fedvol.store import migrations
from fedvol.store.catalogue import CATALOGUE
from fedvol.store.database import migrating, open_engine
from fedvol.store.federation_tables import FEDERATION
from fedvol.store.migrations import MIGRATIONS
from fedvol.store.schema import Component, held_revision, prepare_schema
from fedvol.store.site_tables import SITE
from fedvol.store.tables import RUNS

COMPONENTS = (RUNS, FEDERATION, SITE, CATALOGUE)


@pytest.fixture
def engine(database: str | Path) -> Iterator[Engine]:
    engine = open_engine(database)
    yield engine
    engine.dispose()


def migrate(engine: Engine, revision: str, *, folder: Path = MIGRATIONS) -> None:
    with migrating(engine) as connection:
        migrations.upgrade(connection, revision, migrations=folder)


def described(engine: Engine, metadata: MetaData) -> dict[str, Any]:
    """Everything that a database says of tables."""
    found = inspect(engine)
    return {
        name: {
            "columns": [{**one, "type": str(one["type"])} for one in found.get_columns(name)],
            "primary": found.get_pk_constraint(name),
            "foreign": sorted(found.get_foreign_keys(name), key=str),
            "unique": sorted(found.get_unique_constraints(name), key=str),
            "indexes": sorted(found.get_indexes(name), key=str),
        }
        for name in metadata.tables
    }


def differences(connection: Connection, metadata: MetaData) -> list[Any]:
    def is_ours(_item: object, name: str | None, kind: str, *_: object) -> bool:
        return kind != "table" or name in metadata.tables

    options = {"include_object": is_ours, "compare_type": True, "compare_server_default": True}
    context = MigrationContext.configure(connection, opts=options)
    return compare_metadata(context, metadata)


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda one: one.name)
def test_migrations_make_the_tables_that_the_program_uses(
    component: Component, engine: Engine
) -> None:
    migrate(engine, f"{component.name}@head")
    with engine.connect() as connection:
        assert held_revision(connection, component) == component.head
        assert differences(connection, component.metadata) == []
    migrated = described(engine, component.metadata)
    component.metadata.drop_all(engine)
    component.metadata.create_all(engine)
    assert described(engine, component.metadata) == migrated


def test_every_revision_is_in_the_file_of_its_name() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    assert set(script.get_heads()) == {one.head for one in COMPONENTS}
    for revision in script.walk_revisions():
        assert Path(revision.path).stem == revision.revision
    assert set(script.get_bases()) == {one.first for one in COMPONENTS}


def test_alembic_is_imported_only_where_something_is_to_migrate(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fedvol.store import RunStore, open_engine\n"
        f"for _ in range(2): RunStore(open_engine(Path({str(tmp_path / 'a.db')!r})))\n"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("component", "version"),
    [(RUNS, 4), (FEDERATION, 1), (SITE, 1), (CATALOGUE, 2)],
    ids=lambda one: getattr(one, "name", None),
)
def test_the_last_tables_without_revisions_are_taken_over(
    component: Component, version: int, tmp_path: Path
) -> None:
    engine = open_engine(tmp_path / "earlier.db")
    component.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE schema_version (component VARCHAR, version INTEGER)"))
        connection.execute(
            text("INSERT INTO schema_version VALUES (:component, :version)"),
            {"component": component.name, "version": version},
        )
    prepare_schema(engine, component)
    with engine.connect() as connection:
        assert held_revision(connection, component) == component.head
    engine.dispose()


# --- a component of the test's own, of which there are two revisions ---------------------------


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    name: Mapped[str] = mapped_column(String(50), primary_key=True)
    full: Mapped[str] = mapped_column(String(50))


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    author: Mapped[str] = mapped_column(ForeignKey("authors.name"))


FIRST = """
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels = "notes_0001", None, ("notes",)
def upgrade():
    op.create_table("authors", sa.Column("name", sa.String(50), primary_key=True))
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("author", sa.String(50), sa.ForeignKey("authors.name"), nullable=False),
    )
"""
SECOND = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "notes_0002", "notes_0001"
def upgrade():
    with op.batch_alter_table("authors", recreate="{recreate}") as table:
        table.add_column(sa.Column("full", sa.String(50)))
    op.execute("UPDATE authors SET \\"full\\" = 'Dr ' || name")
    with op.batch_alter_table("authors") as table:
        table.alter_column("full", existing_type=sa.String(50), nullable=False)
    {last}
"""


@pytest.fixture
def notes(tmp_path: Path, engine: Engine) -> Component:
    folder = tmp_path / "100% own"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text((MIGRATIONS / "env.py").read_text())
    (folder / "versions" / "notes_0001.py").write_text(FIRST)
    write_second(folder, engine)
    return Component(
        name="notes", metadata=Base.metadata, head="notes_0002", adopted=7, migrations=folder
    )


def write_second(folder: Path, engine: Engine, *, last: str = "") -> None:
    recreate = "always" if engine.dialect.name == "sqlite" else "never"
    (folder / "versions" / "notes_0002.py").write_text(SECOND.format(recreate=recreate, last=last))


def make_older(engine: Engine, notes: Component) -> None:
    migrate(engine, notes.first, folder=notes.migrations)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO authors VALUES ('ada')"))
        connection.execute(text("INSERT INTO notes VALUES (1, 'ada')"))


def held(engine: Engine, notes: Component) -> tuple[str | None, list[Any]]:
    """Revision, and what notes and authors say."""
    with engine.connect() as connection:
        joined = "SELECT * FROM notes JOIN authors ON author = name"
        return held_revision(connection, notes), list(map(tuple, connection.execute(text(joined))))


def test_older_tables_are_migrated_with_what_they_hold(engine: Engine, notes: Component) -> None:
    make_older(engine, notes)
    prepare_schema(engine, notes)
    assert held(engine, notes) == ("notes_0002", [(1, "ada", "ada", "Dr ada")])
    with engine.connect() as connection:
        assert differences(connection, Base.metadata) == []
    # Foreign keys hold for whoever writes next.
    with pytest.raises(StoreError), migrating(engine) as connection:
        connection.execute(text("INSERT INTO notes VALUES (2, 'nobody')"))


@pytest.mark.parametrize("last", ["raise RuntimeError", "op.execute('DELETE FROM authors')"])
def test_a_migration_is_whole_or_not_at_all(engine: Engine, notes: Component, last: str) -> None:
    make_older(engine, notes)
    write_second(notes.migrations, engine, last=last)
    with pytest.raises((RuntimeError, StoreError)):
        prepare_schema(engine, notes)
    with engine.connect() as connection:
        assert held_revision(connection, notes) == "notes_0001"
        assert list(connection.execute(text("SELECT * FROM authors"))) == [("ada",)]


def test_tables_from_before_revisions_are_taken_over(engine: Engine, notes: Component) -> None:
    make_older(engine, notes)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("CREATE TABLE schema_version (component VARCHAR, version INTEGER)"))
        connection.execute(text("INSERT INTO schema_version VALUES ('notes', 7), ('other', 3)"))
    prepare_schema(engine, notes)
    assert held(engine, notes) == ("notes_0002", [(1, "ada", "ada", "Dr ada")])
    with engine.begin() as connection:
        kept = connection.execute(text("SELECT * FROM schema_version")).all()
        assert kept == [("other", 3)]
        connection.execute(text("UPDATE schema_version SET component = 'notes'"))
        connection.execute(text("DELETE FROM alembic_version"))
    with pytest.raises(SchemaVersionError, match=r"version 3, and .* take over version 7"):
        prepare_schema(engine, notes)


def test_tables_of_a_newer_fedvol_are_refused(engine: Engine, notes: Component) -> None:
    prepare_schema(engine, notes)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'notes_0003'"))
    with pytest.raises(SchemaVersionError, match=r"newer fedvol \(revision notes_0003"):
        prepare_schema(engine, notes)


OPENER = """
import sys
from pathlib import Path
from sqlalchemy import MetaData
from fedvol.store.database import open_engine
from fedvol.store.schema import Component, prepare_schema
print("ready", flush=True)
sys.stdin.readline()
prepare_schema(
    open_engine(sys.argv[1]),
    Component(name="notes", metadata=MetaData(), head="notes_0002", migrations=Path(sys.argv[2])),
)
"""


def test_processes_that_open_at_once_migrate_once(
    database: str | Path, engine: Engine, notes: Component
) -> None:
    make_older(engine, notes)  # migrated twice, a column would be there already
    words = [sys.executable, "-c", OPENER, str(database), str(notes.migrations)]
    both = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        process.communicate(timeout=60)
    assert [process.returncode for process in both] == [0, 0]
    assert held(engine, notes) == ("notes_0002", [(1, "ada", "ada", "Dr ada")])
