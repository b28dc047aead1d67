"""Routes by which a hospital joins: it enrols, then fetches the roster.

POST /fedvol/v1/enrol    a signed body with the token and the site's public keys
GET  /fedvol/v1/roster   the newest roster, as the root signed it, for sites that ever enrolled
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, final

from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fedvol.config.base import Section
from fedvol.config.data import Name
from fedvol.errors import (
    CallRefusedError,
    InvitationError,
    InvitationNameError,
    InvitationRefusedError,
    InvitationUsedError,
    MessageError,
    RosterError,
    SignatureError,
)
from fedvol.identity import (
    NodePublicKeyField,
    PublicKey,
    PublicKeyField,
    SignedBody,
    Tag,
    require_in_time,
    site_fingerprint,
    token_digest,
    write_moment,
)
from fedvol.server.calls import Throttle, caller_address, read_small, refusal, refusing
from fedvol.store import FederationStore, InvitationRecord, SiteKeysRecord, SiteRecord
from fedvol.transport.network.calls import CallGuard
from fedvol.types import SiteId

ENROL = "/fedvol/v1/enrol"
ROSTER = "/fedvol/v1/roster"

_TOKEN = re.compile("[0-9a-f]{64}")
EACH, TOGETHER, _PERIOD_S = 30, 600, 60.0
"""Attempts to enrol that are heard in a minute: from one address, and in all."""

_WHERE = "enrolment"


class Enrolment(Section):
    """What a hospital brings when it joins, or when it changes its keys."""

    site: Name
    """Its name, as in its invitation."""
    token: Annotated[str, Field(max_length=200)]
    """The invitation's token."""
    identity: PublicKeyField
    """Its new identity key, which signs the enrolment."""
    node: NodePublicKeyField
    """Its node's new key."""
    software: Annotated[str, Field(pattern="^[0-9A-Za-z.+-]{1,50}$")]
    """Its version of fedvol."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@final
class EnrolmentDesk:
    """Takes hospitals' keys, each for one token.

    Args:
        store: Invitations and sites.
        now: Gives the time, UTC.
    """

    def __init__(self, store: FederationStore, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._store = store
        self._now = now

    def enrol(self, data: bytes) -> str:
        """Take an enrolment.

        Args:
            data: The signed body as it came.

        Returns:
            The fingerprint of the site, which its people and the operator compare.

        Raises:
            MessageError: It is malformed.
            SignatureError: It is not signed by the key that it brings.
            InvitationError: The token is malformed.
            InvitationRefusedError: It is unknown or of another site.
            InvitationUsedError: It was used already.
            InvitationExpiredError: Its time is over.
            RosterDuplicateError: Another site has one of the keys.
        """
        body = SignedBody.parse(data, where=_WHERE)
        # Nobody knows the key yet: it must be the one that the payload brings.
        enrolment = _enrolment(body.open(Tag.ENROLMENT, signer=body.signer, where=_WHERE))
        if enrolment.identity != body.signer:
            raise SignatureError(
                _WHERE,
                "it is signed with another key than the one that it brings",
                "A site signs its enrolment with its own new identity key.",
            )
        if not _TOKEN.fullmatch(enrolment.token):
            raise InvitationError(
                f"site {enrolment.site}",
                "the token is damaged",
                "Copy the whole line of the invitation again.",
            )
        self._store.sites.enrol(
            SiteId(enrolment.site),
            keys=SiteKeysRecord(identity=enrolment.identity.hex, node=enrolment.node.hex),
            software=enrolment.software,
            token_digest=token_digest(enrolment.token),
            admit=lambda invitation: self._admit(invitation, enrolment),
        )
        return site_fingerprint(enrolment.site, identity=enrolment.identity, node=enrolment.node)

    def _admit(self, invitation: InvitationRecord | None, enrolment: Enrolment) -> datetime:
        if invitation is None:
            raise InvitationRefusedError(
                f"site {enrolment.site}",
                "no invitation has this token, or a newer one took its place",
                "Invite the site again if it asks for it.",
            )
        if invitation.site != enrolment.site:
            raise InvitationNameError(
                f"site {enrolment.site}",
                f"the token is of an invitation of {invitation.site}",
                "The site must enrol under the name in its invitation.",
            )
        if invitation.used is not None:
            raise InvitationUsedError(
                f"site {enrolment.site}",
                f"its token was used at {write_moment(invitation.used)}",
                "If that was not the hospital, somebody else has read the invitation: compare "
                "fingerprints, and invite the site again.",
            )
        now = self._now()
        require_in_time(enrolment.site, expires=invitation.expires, now=now)
        return now


@final
class RosterGuard:
    """Lets those read the roster whose keys are here: sites that wait, take part, or did.

    A site that waits for the root is in no roster yet, and one that is turned away must see that
    it is. Nobody else learns which hospitals there are.

    Args:
        store: Sites.
    """

    def __init__(self, store: FederationStore) -> None:
        # To read it twice with one call does no harm, so nothing is remembered on disk.
        self._present = CallGuard(_Keys(store, of=lambda record: record.keys))
        self._next = CallGuard(_Keys(store, of=lambda record: record.next_keys))

    def admit(self, request: Request) -> None:
        """Let a call through.

        Raises:
            CallRefusedError: No site of the records signed it, for this route, just now.
        """
        headers, method, path = request.headers, request.method, request.url.path
        try:
            self._present.admit(headers, method=method, path=path)
        except CallRefusedError:
            self._next.admit(headers, method=method, path=path)


@final
class _Keys:
    """One key of each site, whether it may take part or not."""

    def __init__(
        self, store: FederationStore, *, of: Callable[[SiteRecord], SiteKeysRecord | None]
    ) -> None:
        self._store = store
        self._of = of

    def identity(self, site: SiteId) -> PublicKey | None:
        record = self._store.sites.site(site)
        keys = None if record is None else self._of(record)
        return None if keys is None else PublicKey(keys.identity)


def joining_routes(store: FederationStore, desk: EnrolmentDesk) -> list[Route]:
    """The routes.

    Args:
        store: Rosters, and who may read them.
        desk: Takes enrolments.
    """
    guard = RosterGuard(store)
    throttle = Throttle(each=EACH, together=TOGETHER, period_s=_PERIOD_S)

    async def enrol(request: Request) -> Response:
        throttle.admit(caller_address(request.scope))
        data = await read_small(request)
        fingerprint = await run_in_threadpool(desk.enrol, data)
        return JSONResponse({"status": "waiting", "fingerprint": fingerprint})

    async def roster(request: Request) -> Response:
        guard.admit(request)
        content = await run_in_threadpool(store.sites.roster)
        if content is None:
            return refusal(404, RosterError.code)
        return Response(content, media_type="application/json")

    return [
        Route(ENROL, refusing(enrol), methods=["POST"]),
        Route(ROSTER, refusing(roster), methods=["GET"]),
    ]


def _enrolment(payload: str) -> Enrolment:
    try:
        return Enrolment.model_validate_json(payload)
    except ValidationError as error:
        raise MessageError(
            _WHERE, "it does not follow the schema", "Bring site and server to one version."
        ) from error
