"""Sites of a server: how they were invited, what they brought, what the rosters say of them."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import final

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from fedvol.errors import RosterDuplicateError, RosterOutdatedError, UsageError
from fedvol.store.database import reading, writing
from fedvol.store.federation_records import (
    InvitationRecord,
    RosterEntry,
    SiteKeysRecord,
    SiteRecord,
    SiteStanding,
)
from fedvol.store.federation_tables import InvitationRow, RosterRow, SiteRow
from fedvol.types import SiteId


@final
class SiteTables:
    """Invitations, sites and rosters.

    Args:
        engine: From `open_engine`, with the tables there.
        now: Gives the time, UTC.
    """

    def __init__(self, engine: Engine, *, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    # --- joining ------------------------------------------------------------------------------

    def invite(self, site: SiteId, *, token_digest: str, expires: datetime, by: str) -> None:
        """Keep an invitation; an unused one of the same site is void from now on.

        Raises:
            UsageError: A site's name differs from this one in nothing but case.
        """
        with writing(self._engine) as session:
            alike = session.scalars(
                select(SiteRow.name).where(func.lower(SiteRow.name) == site.lower())
            )
            if any(name != site for name in alike):
                raise UsageError(
                    f"site {site}",
                    "another site's name differs from it in nothing but case",
                    "Choose a name that people cannot mistake.",
                )
            session.execute(
                delete(InvitationRow).where(
                    InvitationRow.site == site, InvitationRow.used.is_(None)
                )
            )
            session.add(
                InvitationRow(
                    token_digest=token_digest,
                    site=site,
                    expires=expires,
                    created=self._now(),
                    created_by=by,
                )
            )

    def invitations(self) -> tuple[InvitationRecord, ...]:
        """Every invitation, oldest first."""
        with reading(self._engine) as session:
            found = session.scalars(select(InvitationRow).order_by(InvitationRow.created))
            return tuple(_invitation(row) for row in found)

    def enrol(
        self,
        site: SiteId,
        *,
        keys: SiteKeysRecord,
        software: str,
        token_digest: str,
        admit: Callable[[InvitationRecord | None], datetime],
    ) -> SiteRecord:
        """Take a site's keys and use its token up, in one transaction.

        The same enrolment once more changes nothing: the answer to the first may have been lost.

        Args:
            site: What it calls itself.
            keys: Its new public keys.
            software: Its version of fedvol.
            token_digest: By which its invitation is found.
            admit: Given the invitation, says when its token was used, or raises.

        Raises:
            RosterDuplicateError: Another site has one of the keys.
        """
        with writing(self._engine) as session:
            invitation = session.get(InvitationRow, token_digest)
            row = session.get(SiteRow, site)
            if (
                invitation is not None
                and invitation.used is not None
                and invitation.site == site
                and row is not None
                and keys in (_keys(row.identity, row.node), _keys(row.next_identity, row.next_node))
            ):
                return _site(row)
            used = admit(_invitation(invitation) if invitation is not None else None)
            assert invitation is not None
            invitation.used = used
            _require_own_keys(session, site, keys)
            if row is None:
                row = _new_site(site)
                session.add(row)
            row.next_identity, row.next_node = keys.identity, keys.node
            row.software, row.enrolled = software, used
            if row.wanted == SiteStanding.REVOKED:
                # It was invited anew. The keys it had stay out: the root vouches for the new ones.
                row.status = SiteStanding.REVOKED.value
                row.wanted = SiteStanding.ACTIVE.value
            return _site(row)

    # --- sites --------------------------------------------------------------------------------

    def site(self, name: SiteId) -> SiteRecord | None:
        """One site; None if it never enrolled and no roster names it."""
        with reading(self._engine) as session:
            row = session.get(SiteRow, name)
            return _site(row) if row is not None else None

    def sites(self) -> tuple[SiteRecord, ...]:
        """Every site, by name."""
        with reading(self._engine) as session:
            return tuple(
                _site(row) for row in session.scalars(select(SiteRow).order_by(SiteRow.name))
            )

    def want(self, name: SiteId, standing: SiteStanding) -> SiteRecord:
        """Say where a site is to stand; what is stricter than the roster holds at once.

        Raises:
            UsageError: There is no such site.
        """
        with writing(self._engine) as session:
            row = session.get(SiteRow, name)
            if row is None:
                raise UsageError(
                    f"site {name}", "there is no such site", "List them: fedvol site-admin list."
                )
            row.wanted = standing.value
            record = _site(row)
            if standing is SiteStanding.REVOKED and record.keys is None:
                session.delete(row)  # the root never vouched for it, so nothing is to be revoked
            return record

    # --- rosters ------------------------------------------------------------------------------

    def put_roster(
        self, version: int, *, content: bytes, entries: Sequence[RosterEntry], by: str
    ) -> None:
        """Keep an accepted roster, and let every site stand where it says.

        Args:
            version: Its version; the same again is a no-op.
            content: As the root signed it.
            entries: What it says of each site.
            by: Who brought it.

        Raises:
            RosterOutdatedError: A higher version is held.
        """
        with writing(self._engine) as session:
            held = session.scalar(select(func.max(RosterRow.version)))
            if held is not None and version < held:
                raise RosterOutdatedError(
                    f"roster {version}", f"version {held} is held already", "Bring the newest one."
                )
            if held == version:
                return
            session.add(
                RosterRow(version=version, content=content, accepted=self._now(), accepted_by=by)
            )
            rows = {row.name: row for row in session.scalars(select(SiteRow))}
            named = {entry.site for entry in entries}
            for row in rows.values():
                if row.name not in named and row.status != SiteStanding.ENROLLED:
                    row.status = SiteStanding.REVOKED.value
            for entry in entries:
                row = rows.get(entry.site)
                if row is None:
                    row = _new_site(entry.site)
                    session.add(row)
                _place(row, entry)

    def roster(self) -> bytes | None:
        """The newest roster as the root signed it; None before the first."""
        wanted = select(RosterRow).order_by(RosterRow.version.desc()).limit(1)
        with reading(self._engine) as session:
            row = session.scalars(wanted).one_or_none()
            return row.content if row is not None else None


def _place(row: SiteRow, entry: RosterEntry) -> None:
    row.status = entry.status.value
    row.identity, row.node = entry.keys.identity, entry.keys.node
    if (row.next_identity, row.next_node) == (row.identity, row.node):
        row.next_identity = row.next_node = ""
    if entry.status is not SiteStanding.ACTIVE:
        # The root may suspend or revoke by itself: the next draft must not bring the site back.
        row.wanted = entry.status.value


def _require_own_keys(session: Session, site: SiteId, keys: SiteKeysRecord) -> None:
    for row in session.scalars(select(SiteRow).where(SiteRow.name != site)):
        theirs = {row.identity, row.node, row.next_identity, row.next_node}
        if theirs & {keys.identity, keys.node}:
            raise RosterDuplicateError(
                f"site {site}",
                f"it brought a key of site {row.name}",
                "Each site makes keys of its own; find out who copied whose.",
            )


def _new_site(name: SiteId) -> SiteRow:
    return SiteRow(
        name=name,
        status=SiteStanding.ENROLLED.value,
        wanted=SiteStanding.ACTIVE.value,
        identity="",
        node="",
        next_identity="",
        next_node="",
        software="",
    )


def _keys(identity: str, node: str) -> SiteKeysRecord | None:
    return SiteKeysRecord(identity=identity, node=node) if identity else None


def _site(row: SiteRow) -> SiteRecord:
    return SiteRecord(
        name=SiteId(row.name),
        status=SiteStanding(row.status),
        wanted=SiteStanding(row.wanted),
        keys=_keys(row.identity, row.node),
        next_keys=_keys(row.next_identity, row.next_node),
        software=row.software,
        enrolled=row.enrolled,
    )


def _invitation(row: InvitationRow) -> InvitationRecord:
    return InvitationRecord(
        site=SiteId(row.site),
        token_digest=row.token_digest,
        expires=row.expires,
        used=row.used,
        created=row.created,
        created_by=row.created_by,
    )
