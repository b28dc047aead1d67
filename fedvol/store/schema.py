"""`prepare_schema`: a component's tables as this fedvol knows them, made or migrated where needed.

Each group of tables is a `Component` with revisions of its own; several may share a database. Its
revisions are alembic's, in `migrations/versions`, and what a database holds stands where alembic
looks for it, in `alembic_version`. Alembic itself is imported only where something is to migrate.
"""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    inspect,
    select,
)

from fedvol.errors import SchemaVersionError, StoreError
from fedvol.store.database import migrating, place_of, reading
from fedvol.store.migrations import MIGRATIONS, upgrade

REVISIONS = Table(
    "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True)
)
"""What alembic keeps: the newest revision of each component."""

_BEFORE_REVISIONS = Table(
    "schema_version",
    MetaData(),
    Column("component", String, primary_key=True),
    Column("version", Integer, nullable=False),
)
"""What fedvol kept before it had revisions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A group of tables.

    Attributes:
        name: Its name; no other component's begins with it.
        metadata: Its tables, as this fedvol uses them.
        head: Name of its newest revision: the component's name, `_`, four digits.
        adopted: Version under which fedvol kept the tables of the first revision before there were
            revisions; None: it never did.
        migrations: Folder of alembic's environment, with the revisions in `versions`.
    """

    name: str
    metadata: MetaData
    head: str
    adopted: int | None = None
    migrations: Path = MIGRATIONS

    @property
    def first(self) -> str:
        """Name of its first revision."""
        return f"{self.name}_0001"

    def knows(self, revision: str) -> bool:
        """Whether this fedvol has a revision."""
        return (self.migrations / "versions" / f"{revision}.py").is_file()


def prepare_schema(engine: Engine, component: Component) -> None:
    """Make a component's tables where they are absent, migrate them where they are older.

    Processes that open one database at once do it one after the other, and each step is one
    transaction: a process that is killed leaves the tables as they were.

    Raises:
        SchemaVersionError: The tables are those of a newer fedvol, or of one before revisions whose
            tables cannot be taken over.
        StoreError: The database cannot be written.
    """
    with reading(engine) as session:
        if held_revision(session.connection(), component) == component.head:
            return
    with migrating(engine) as connection:
        held = held_revision(connection, component) or _adopted(connection, component, engine)
        if held is None:
            component.metadata.create_all(connection)
            REVISIONS.create(connection, checkfirst=True)
            connection.execute(insert(REVISIONS).values(version_num=component.head))
        elif held != component.head:
            require_known(component, held, where=place_of(engine))
            upgrade(connection, f"{component.name}@head", migrations=component.migrations)


def held_revision(connection: Connection, component: Component) -> str | None:
    """The revision of a component's tables in a database; None where it names none."""
    if not inspect(connection).has_table(REVISIONS.name):
        return None
    revision = REVISIONS.c.version_num
    wanted = select(revision).where(revision.startswith(f"{component.name}_", autoescape=True))
    return connection.scalar(wanted)


def require_empty(engine: Engine) -> None:
    """Refuse a database in which fedvol has tables already.

    Raises:
        StoreError: It has.
    """
    with reading(engine) as session:
        require_no_tables(session.connection(), where=place_of(engine))


def require_no_tables(connection: Connection, *, where: str) -> None:
    """The same, within a transaction.

    Raises:
        StoreError: It has.
    """
    found = inspect(connection)
    if found.has_table(REVISIONS.name) or found.has_table(_BEFORE_REVISIONS.name):
        raise StoreError(
            where,
            "the database holds records already",
            "Name another one, or make it anew and empty.",
        )


def require_known(component: Component, revision: str, *, where: str) -> None:
    """Refuse tables that this fedvol does not know.

    Raises:
        SchemaVersionError: They are of a revision that it does not have.
    """
    if not component.knows(revision):
        raise SchemaVersionError(
            where,
            f"its {component.name} tables are of a newer fedvol (revision {revision}; "
            f"this one writes {component.head})",
            "Use the newer fedvol, or restore a backup that was made before it.",
        )


def _adopted(connection: Connection, component: Component, engine: Engine) -> str | None:
    """Take over tables that were made before there were revisions; None if there are none."""
    if not inspect(connection).has_table(_BEFORE_REVISIONS.name):
        return None
    name, version = _BEFORE_REVISIONS.c.component, _BEFORE_REVISIONS.c.version
    held = connection.scalar(select(version).where(name == component.name))
    if held is None:
        return None
    if held != component.adopted:
        raise SchemaVersionError(
            place_of(engine),
            f"its {component.name} tables have version {held}, and this fedvol can take over "
            f"version {component.adopted}",
            "Use the fedvol version that made the database, or a new folder.",
        )
    REVISIONS.create(connection, checkfirst=True)
    connection.execute(insert(REVISIONS).values(version_num=component.first))
    connection.execute(delete(_BEFORE_REVISIONS).where(name == component.name))
    if not connection.scalar(select(func.count()).select_from(_BEFORE_REVISIONS)):
        _BEFORE_REVISIONS.drop(connection)
    return component.first
