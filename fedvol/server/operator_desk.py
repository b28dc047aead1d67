"""`OperatorDesk`: what operators do about users and sites, as functions of values."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import cast, final

from pydantic import TypeAdapter, ValidationError

from fedvol.audit import AuditSink, RosterChange
from fedvol.config.data import Name
from fedvol.errors import UsageError
from fedvol.identity import (
    Invitation,
    NodePublicKey,
    PublicKey,
    site_fingerprint,
    token_digest,
    write_moment,
)
from fedvol.server.server_state import ServerState, new_token
from fedvol.store import Role, SiteRecord, SiteStanding
from fedvol.types import Json, SiteId


def _utc_now() -> datetime:
    return datetime.now(UTC)


@final
class OperatorDesk:
    """Users, invitations, sites and the roster.

    Args:
        state: The server's folder, read.
        audit: Where a new roster is written down.
        online: Sites whose node is there now.
        changed: Called when the sites that may take part have changed.
        now: Gives the time, UTC.
    """

    def __init__(
        self,
        state: ServerState,
        *,
        audit: AuditSink,
        online: Callable[[], tuple[SiteId, ...]],
        changed: Callable[[], None],
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._state = state
        self._audit = audit
        self._online = online
        self._changed = changed
        self._now = now

    # --- users --------------------------------------------------------------------------------

    def add_user(self, name: str, *, role: str) -> dict[str, Json]:
        """Add a user; the token is in the answer and nowhere else.

        Raises:
            UsageError: The name or the role cannot be, or the name is taken.
        """
        if role not in set(Role):
            raise UsageError(
                f"role {role}"[:100], "there is no such role", f"Choose among: {', '.join(Role)}."
            )
        require_name(name, of="user")
        token = new_token()
        self._state.store.people.add(name, role=Role(role), token=token)
        return {"name": name, "role": role, "token": token}

    def users(self) -> list[Json]:
        """Every user."""
        return [
            {
                "name": one.name,
                "role": one.role.value,
                "created": write_moment(one.created),
                "removed": write_moment(one.removed) if one.removed else None,
            }
            for one in self._state.store.people.users()
        ]

    def remove_user(self, name: str) -> dict[str, Json]:
        """Let a user in no more.

        Raises:
            UsageError: There is none of that name, or it is the last operator.
        """
        self._state.store.people.remove(name)
        return {"name": name}

    def actions(self) -> list[Json]:
        """What was done last."""
        return [
            {
                "at": write_moment(one.at),
                "user": one.user,
                "action": one.action,
                "subject": one.subject,
                "outcome": one.outcome,
            }
            for one in self._state.store.people.actions()
        ]

    # --- sites --------------------------------------------------------------------------------

    def invite(self, site: str, *, by: str) -> dict[str, Json]:
        """Invite a site; the line is in the answer and nowhere else.

        Raises:
            UsageError: The name cannot be a site's.
            CertificateError: The authority's certificate cannot be read.
        """
        require_name(site, of="site")
        config = self._state.config
        expires = self._now() + timedelta(days=config.joining.invitation_days)
        invitation = Invitation.new(
            consortium=config.consortium,
            site=site,
            server=config.address,
            authority_pem=self._state.authority_pem,
            root=self._state.root.root,
            expires=expires,
        )
        line = invitation.line()
        self._state.store.sites.invite(
            SiteId(site),
            token_digest=token_digest(invitation.token),
            expires=invitation.expires,
            by=by,
        )
        return {"site": site, "expires": write_moment(expires), "line": line}

    def sites(self) -> list[Json]:
        """Every site, and every name that is invited and has not come yet."""
        online = set(self._online())
        active = set(self._state.registry.active())
        records = self._state.store.sites.sites()
        known = {record.name for record in records}
        found = [self._site(record, online=online, active=active) for record in records]
        for one in self._state.store.sites.invitations():
            if one.used is None and one.site not in known:
                late = self._now() >= one.expires
                found.append(
                    {
                        "site": one.site,
                        "status": "invitation expired" if late else "invited",
                        "expires": write_moment(one.expires),
                    }
                )
        return cast("list[Json]", found)

    def _site(
        self, record: SiteRecord, *, online: set[SiteId], active: set[SiteId]
    ) -> dict[str, Json]:
        keys = record.next_keys or record.keys
        return {
            "site": record.name,
            "status": record.status.value,
            "wanted": record.wanted.value,
            "takes_part": record.name in active,
            "online": record.name in online,
            "waits_for_root": record.next_keys is not None
            or record.status.value != record.wanted.value,
            "fingerprint": site_fingerprint(
                record.name,
                identity=PublicKey(keys.identity),
                node=NodePublicKey(keys.node),
            )
            if keys
            else None,
            "software": record.software,
            "enrolled": write_moment(record.enrolled) if record.enrolled else None,
        }

    def want_site(self, site: str, *, verb: str) -> dict[str, Json]:
        """Suspend, resume or remove a site; what is stricter than the roster holds at once.

        Raises:
            UsageError: There is no such site.
        """
        standing = {
            "suspend": SiteStanding.SUSPENDED,
            "resume": SiteStanding.ACTIVE,
            "remove": SiteStanding.REVOKED,
        }[verb]
        record = self._state.store.sites.want(SiteId(site), standing)
        self._changed()
        return self._site(record, online=set(), active=set(self._state.registry.active()))

    def draft(self) -> dict[str, Json]:
        """What the root should sign next."""
        return cast("dict[str, Json]", self._state.registry.draft().model_dump(mode="json"))

    def put_roster(self, content: bytes, *, by: str) -> dict[str, Json]:
        """Take the roster that the root signed.

        Raises:
            IdentityError: It is not acceptable; says why.
            AuditError: It cannot be written down, and does not hold.
        """
        held = self._state.registry.roster()
        _, roster = self._state.registry.acceptable(content, where="roster")
        if held is None or held.version < roster.version:
            self._audit.append(RosterChange.between(held, roster))
        self._state.registry.put(content, where="roster", by=by)
        self._changed()
        return {
            "version": roster.version,
            "not_after": write_moment(roster.not_after),
            "active": [*self._state.registry.active()],
        }


def require_name(name: str, *, of: str) -> None:
    """Refuse what cannot be a name.

    Raises:
        UsageError: It cannot.
    """
    try:
        TypeAdapter[str](Name).validate_python(name)
    except ValidationError as error:
        raise UsageError(
            f"{of}'s name",
            "1 to 64 letters, digits, dots, hyphens and underscores are a name; this is none",
            "Choose another.",
        ) from error
