"""`SiteRegistry`: the sites that may take part now, by newest roster and operator's word."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import final

from fedvol.errors import RosterError
from fedvol.identity import (
    NodePublicKey,
    PublicKey,
    Roster,
    RosterDraft,
    ServerEntry,
    SignedRoster,
    SiteEntry,
    SiteStatus,
    accept,
)
from fedvol.store import FederationStore, RosterEntry, SiteKeysRecord, SiteRecord, SiteStanding
from fedvol.types import SiteId

_WHERE = "the server's roster"


def _utc_now() -> datetime:
    return datetime.now(UTC)


@final
class SiteRegistry:
    """Who takes part; everything is in the store, so every process of the server agrees.

    Args:
        store: Sites and rosters.
        root: The consortium's root.
        consortium: The consortium's name.
        server: The server's own identity, which a roster must name.
        now: Gives the time, UTC.
    """

    def __init__(
        self,
        store: FederationStore,
        *,
        root: PublicKey,
        consortium: str,
        server: PublicKey,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._store = store
        self._root = root
        self._consortium = consortium
        self._server = server
        self._now = now
        self._read: tuple[bytes, Roster] | None = None

    def identity(self, site: SiteId) -> PublicKey | None:
        """Key of an active site; None of any other."""
        record = self._store.sites.site(site)
        if record is None or not self._may_take_part(record):
            return None
        assert record.keys is not None
        return PublicKey(record.keys.identity)

    def active(self) -> tuple[SiteId, ...]:
        """The sites that may take part now, sorted."""
        return tuple(one.name for one in self._store.sites.sites() if self._may_take_part(one))

    def nodes(self) -> dict[SiteId, NodePublicKey]:
        """Node keys of the sites that may take part now."""
        return {
            one.name: NodePublicKey(one.keys.node)
            for one in self._store.sites.sites()
            if one.keys is not None and self._may_take_part(one)
        }

    def roster(self) -> Roster | None:
        """The newest roster, however old; None before the first."""
        content = self._store.sites.roster()
        if content is None:
            return None
        if self._read is None or self._read[0] != content:
            signed = SignedRoster.parse(content, where=_WHERE)
            self._read = content, signed.open(self._root, where=_WHERE)
        return self._read[1]

    def put(self, content: bytes, *, where: str, by: str) -> Roster:
        """Take a roster that the root signed in the place of the one held.

        Args:
            content: Its bytes.
            where: The file or the sender, for errors.
            by: Which user brought it.

        Raises:
            IdentityError: It is not the root's, not this consortium's, names another server, is
                older than the one held, or does not hold now.
        """
        signed, roster = self.acceptable(content, where=where)
        self._store.sites.put_roster(
            roster.version,
            content=signed.to_bytes(),
            entries=[_entry(entry) for entry in roster.sites],
            by=by,
        )
        return roster

    def acceptable(self, content: bytes, *, where: str) -> tuple[SignedRoster, Roster]:
        """A roster that may be put, signed and opened.

        Args:
            content: Its bytes.
            where: The file or the sender, for errors.

        Raises:
            IdentityError: As for `put`.
        """
        signed = SignedRoster.parse(content, where=where)
        roster = accept(signed, root=self._root, held=self.roster(), now=self._now(), where=where)
        if roster.consortium != self._consortium:
            raise RosterError(
                where,
                "it is the roster of another consortium than this server's",
                "See that root.json and server.toml are of one consortium.",
            )
        if roster.server.identity != self._server:
            raise RosterError(
                where,
                "it names another server's key than this one's",
                "Have the root sign a draft that this server wrote.",
            )
        return signed, roster

    def draft(self) -> RosterDraft:
        """What the root should sign next: the newest keys, each site as the operator wants it."""
        entries: list[SiteEntry] = []
        for record in self._store.sites.sites():
            keys = record.next_keys or record.keys
            if keys is None:
                continue
            entries.append(
                SiteEntry(
                    site=record.name,
                    identity=PublicKey(keys.identity),
                    node=NodePublicKey(keys.node),
                    status=SiteStatus(record.wanted.value),
                )
            )
        return RosterDraft(
            consortium=self._consortium,
            server=ServerEntry(identity=self._server),
            sites=tuple(entries),
        )

    def _may_take_part(self, record: SiteRecord) -> bool:
        if not record.is_active or record.keys is None:
            return False
        roster = self.roster()
        return roster is not None and roster.not_before <= self._now() < roster.not_after


def _entry(entry: SiteEntry) -> RosterEntry:
    return RosterEntry(
        site=SiteId(entry.site),
        status=SiteStanding(entry.status.value),
        keys=SiteKeysRecord(identity=entry.identity.hex, node=entry.node.hex),
    )
