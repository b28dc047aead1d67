"""Revisions of the database: how its tables became what they are, run by alembic.

One file in `versions` for each revision, named as the revision: `COMPONENT_NNNN.py`. The first of a
component carries its name as a branch label. A revision is never changed once it is released; a
change of a table in `fedvol.store` is a new one, and raises the component's `head`. On SQLite,
alter tables by `op.batch_alter_table`; foreign keys are off meanwhile and checked at the end.
"""

from pathlib import Path

from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent


def upgrade(connection: Connection, revision: str, *, migrations: Path = MIGRATIONS) -> None:
    """Bring tables to a revision, in the connection's transaction.

    Args:
        connection: Held against other writers.
        revision: Name of a revision, or `COMPONENT@head`.
        migrations: Folder of alembic's environment.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
