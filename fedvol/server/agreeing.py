"""Routes by which a site sees what is proposed, says its word, and fetches its receipts.

GET  /fedvol/v1/proposals       what is put to the calling site
GET  /fedvol/v1/proposals/ID    one proposal, signed by the server
POST /fedvol/v1/consents        the site's signed word on one
GET  /fedvol/v1/receipts/RUN    the server's receipts for the site's contributions
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fedvol.config.base import Section
from fedvol.errors import (
    CallRefusedError,
    ConsentRefusedError,
    MessageError,
    PlanMismatchError,
    ProposalUnknownError,
)
from fedvol.identity import Moment, PublicKey, SignedBody, Tag
from fedvol.server.calls import read_small, refusing
from fedvol.store import ConsentRecord, Decision, FederationStore, ProposalRecord, Wanted
from fedvol.transport.network.calls import TOLERANCE, CallGuard, SiteKeys
from fedvol.types import Json, RunId, SiteId

PROPOSALS = "/fedvol/v1/proposals"
CONSENTS = "/fedvol/v1/consents"
RECEIPTS = "/fedvol/v1/receipts"

STATES = {
    Wanted.PROPOSED: "open",
    Wanted.STARTED: "started",
    Wanted.PAUSED: "paused",
    Wanted.STOPPED: "ended",
    Wanted.ENDED: "ended",
}
"""What a site is told of a run."""


class Consent(Section):
    """A site's word on a proposal."""

    proposal: Annotated[str, Field(min_length=1, max_length=200)]
    """Which."""
    plan: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Digest of its plan: what the site's people saw."""
    site: Annotated[str, Field(min_length=1, max_length=64)]
    """Whose word."""
    decision: Literal["approve", "refuse", "withdraw"]
    """What it says."""
    reason: Annotated[str, Field(pattern="^[A-Za-z0-9_-]{0,50}$")]
    """Code of the reason; may be empty."""
    time: Moment
    """When it was said, by the site's clock."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class AgreementDesk:
    """What sites see and say of proposals.

    Args:
        store: Proposals, consents, receipts.
        sites: Identities of the active sites.
        now: Gives the time, UTC.
    """

    def __init__(
        self,
        store: FederationStore,
        *,
        sites: SiteKeys,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._agreements = store.agreements
        self._sites = sites
        self._now = now

    def proposals(self, site: SiteId) -> list[Json]:
        """What is put to a site, oldest first."""
        found: list[Json] = []
        for one in self._agreements.proposals():
            request = self._agreements.request(one.run)
            if site in one.sites and request is not None:
                heard = self._agreements.consents(one.id).get(site)
                found.append(
                    {
                        "id": one.id,
                        "kind": one.kind,
                        "state": STATES[request.wanted],
                        "digest": one.plan_digest,
                        "size_bytes": len(one.content),
                        "heard": "" if heard is None else heard.decision.value,
                    }
                )
        return found

    def proposal(self, site: SiteId, name: str) -> ProposalRecord:
        """One proposal.

        Raises:
            ProposalUnknownError: Nothing of this name was proposed to this site.
        """
        found = self._agreements.proposal(name)
        if found is None or site not in found.sites:
            raise ProposalUnknownError(
                "proposal", "nothing of this name was proposed to this site", "List them again."
            )
        return found

    def consent(self, site: SiteId, data: bytes) -> None:
        """Record a site's word.

        Args:
            site: Who calls.
            data: The signed body as it came.

        Raises:
            MessageError: It is malformed, or of another site.
            SignatureError: It is not signed by the site.
            ProposalUnknownError: Nothing of this name was proposed to this site.
            PlanMismatchError: It names another plan than was proposed.
            ConsentRefusedError: A later word is held, the run has ended, or it is of the future.
        """
        body = SignedBody.parse(data, where=f"consent of {site}")
        text = body.open(Tag.CONSENT, signer=self._key(site), where=f"consent of {site}")
        try:
            consent = Consent.model_validate_json(text)
        except ValidationError as error:
            raise _malformed(site, "it does not follow the schema") from error
        if consent.site != site:
            raise _malformed(site, "it is in the name of another site")
        proposal = self.proposal(site, consent.proposal)
        if consent.plan != proposal.plan_digest:
            raise PlanMismatchError(
                f"consent of {site}",
                "it names another plan than the one proposed",
                "Fetch the proposal again, and look at it again.",
            )
        if consent.time - self._now() > TOLERANCE:
            raise ConsentRefusedError(
                f"consent of {site}", "its time has not come yet", "Set the site's clock."
            )
        self._agreements.consent(
            ConsentRecord(
                proposal=proposal.id,
                site=site,
                decision=Decision(consent.decision),
                reason=consent.reason,
                signed=data,
                said=consent.time,
            )
        )

    def receipts(self, site: SiteId, run: RunId) -> list[Json]:
        """A site's receipts of a run, in order."""
        held = self._agreements.receipts(run)
        return [signed.decode() for key, signed in held.items() if key.site == site]

    def _key(self, site: SiteId) -> PublicKey:
        key = self._sites.identity(site)
        if key is None:
            raise CallRefusedError("call", f"{site} is not active any more", "See the roster.")
        return key


def agreement_routes(desk: AgreementDesk, guard: CallGuard) -> list[Route]:
    """The routes.

    Args:
        desk: Answers them.
        guard: Lets sites through.
    """

    def caller(request: Request, *, size_bytes: int = 0) -> SiteId:
        call = guard.admit(request.headers, method=request.method, path=request.url.path)
        if call.size_bytes != size_bytes:
            raise CallRefusedError("call", "its body is not the one signed for", "Send it again.")
        return SiteId(call.site)

    async def proposals(request: Request) -> Response:
        site = caller(request)
        return JSONResponse({"proposals": await run_in_threadpool(desk.proposals, site)})

    async def proposal(request: Request) -> Response:
        site = caller(request)
        found = await run_in_threadpool(desk.proposal, site, request.path_params["name"])
        return Response(found.content, media_type="application/json")

    async def consents(request: Request) -> Response:
        data = await read_small(request)
        site = caller(request, size_bytes=len(data))
        await run_in_threadpool(desk.consent, site, data)
        return JSONResponse({"status": "recorded"})

    async def receipts(request: Request) -> Response:
        site = caller(request)
        run = RunId(request.path_params["run"])
        return JSONResponse({"receipts": await run_in_threadpool(desk.receipts, site, run)})

    return [
        Route(PROPOSALS, refusing(proposals), methods=["GET"]),
        Route(f"{PROPOSALS}/{{name}}", refusing(proposal), methods=["GET"]),
        Route(CONSENTS, refusing(consents), methods=["POST"]),
        Route(f"{RECEIPTS}/{{run}}", refusing(receipts), methods=["GET"]),
    ]


def _malformed(site: SiteId, what: str) -> MessageError:
    return MessageError(f"consent of {site}", what, "Bring site and server to one version.")
