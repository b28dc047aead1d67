"""`FederationStore`: who takes part and what was agreed; each method is one transaction."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import final

from sqlalchemy import Engine

from fedvol.store.federation_agreements import AgreementTables
from fedvol.store.federation_people import PeopleTables
from fedvol.store.federation_sites import SiteTables
from fedvol.store.federation_tables import FEDERATION
from fedvol.store.schema import prepare_schema


def _utc_now() -> datetime:
    return datetime.now(UTC)


@final
class FederationStore:
    """Users, sites, agreements of a server, in a database.

    Every method of its parts may raise `StoreError` where the database is locked or damaged, and
    `DiskFullError` where no space is left.

    Attributes:
        people: Users, and what they did.
        sites: Invitations, sites, rosters.
        agreements: Proposals, consents, what operators want of runs, receipts.

    Args:
        engine: From `open_engine`.
        now: Gives the time, UTC.

    Raises:
        SchemaVersionError: The tables were made by another version of fedvol.
    """

    def __init__(self, engine: Engine, *, now: Callable[[], datetime] = _utc_now) -> None:
        prepare_schema(engine, FEDERATION)
        self._engine = engine
        self.people = PeopleTables(engine, now=now)
        self.sites = SiteTables(engine, now=now)
        self.agreements = AgreementTables(engine, now=now)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()
