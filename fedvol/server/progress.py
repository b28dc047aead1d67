"""What sites tell of a training under way.

POST /fedvol/v1/progress        the step at which the calling site is, signed by it

The last report of each site is held in memory alone: a server that starts anew hears the next
one within seconds.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, final

from pydantic import Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fedvol.config.base import Section
from fedvol.errors import (
    CallRefusedError,
    MessageError,
    PlanMismatchError,
    ProposalUnknownError,
    TooManyCallsError,
)
from fedvol.identity import SignedBody, Tag
from fedvol.server.calls import read_small, refusing
from fedvol.store import FederationStore
from fedvol.transport.network.calls import CallGuard, SiteKeys
from fedvol.types import RunId, SiteId

PROGRESS = "/fedvol/v1/progress"
STALE_S = 30.0
"""After so many seconds without a report a site that told of its training has fallen silent: it
tells every 5 s, and 15 s after a report that was lost."""
_LEAST_S = 1.0
_MAX_BYTES = 4096
_MAX_STEPS = 10**9
_Place = Annotated[int, Field(ge=0, le=10**6)]


class Report(Section):
    """Where a site's training stands."""

    run: Annotated[str, Field(min_length=1, max_length=200)]
    """The run."""
    plan: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Digest of its plan."""
    site: Annotated[str, Field(min_length=1, max_length=64)]
    """Who tells."""
    stage: _Place
    """Index of the stage."""
    round: _Place
    """1 for the first round."""
    step: Annotated[int, Field(ge=0, le=_MAX_STEPS)]
    """Steps done in this round."""
    steps: Annotated[int, Field(ge=1, le=_MAX_STEPS)]
    """Steps of the round."""
    step_s: Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)] | None
    """Seconds a step took on average; absent before that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a site told last.

    Attributes:
        report: The report.
        age_s: Seconds since it arrived.
    """

    report: Report
    age_s: float

    @property
    def is_stale(self) -> bool:
        """Whether the site should have told more by now."""
        return self.age_s > STALE_S

    @property
    def left_s(self) -> float | None:
        """Seconds until the last step, by the site's own pace; None: not known."""
        if self.report.step_s is None:
            return None
        left_s = (self.report.steps - self.report.step) * self.report.step_s
        return max(left_s - self.age_s, 0.0)


@final
class ProgressDesk:
    """Takes reports, and knows the last one of each site.

    Args:
        store: What was proposed to whom.
        sites: Identities of the active sites.
        monotonic_s: Seconds that never go back.
    """

    def __init__(
        self,
        store: FederationStore,
        *,
        sites: SiteKeys,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agreements = store.agreements
        self._sites = sites
        self._monotonic_s = monotonic_s
        self._last: dict[SiteId, tuple[Report, float]] = {}

    def tell(self, site: SiteId, data: bytes) -> None:
        """Take a report in the place of the site's last one.

        Args:
            site: Who calls.
            data: The signed body as it came.

        Raises:
            TooManyCallsError: The last one came less than a second ago.
            MessageError: It is malformed, or of another site.
            SignatureError: It is not signed by the site.
            ProposalUnknownError: Nothing of this name was proposed to this site.
            PlanMismatchError: It names another plan than was proposed.
        """
        now_s = self._monotonic_s()
        held = self._last.get(site)
        if held is not None and now_s - held[1] < _LEAST_S:
            raise TooManyCallsError(f"progress of {site}", "it tells too often", "Tell it later.")
        report = self._read(site, data)
        proposal = self._agreements.proposal(report.run)
        if proposal is None or site not in proposal.sites:
            raise ProposalUnknownError(
                f"progress of {site}", "no such run was proposed to it", "See the proposals."
            )
        if report.plan != proposal.plan_digest:
            raise PlanMismatchError(
                f"progress of {site}", "it is of another plan", "Fetch the proposal again."
            )
        self._last[site] = report, now_s

    def training(self, run: RunId, site: SiteId) -> Training | None:
        """What a site told last, if it was of this run."""
        held = self._last.get(site)
        if held is None or held[0].run != run:
            return None
        return Training(report=held[0], age_s=self._monotonic_s() - held[1])

    def _read(self, site: SiteId, data: bytes) -> Report:
        where = f"progress of {site}"
        key = self._sites.identity(site)
        if key is None:
            raise CallRefusedError("call", f"{site} is not active any more", "See the roster.")
        body = SignedBody.parse(data, where=where, limit_bytes=_MAX_BYTES)
        text = body.open(Tag.PROGRESS, signer=key, where=where)
        fix = "Bring site and server to one version."
        try:
            report = Report.model_validate_json(text)
        except ValidationError as error:
            raise MessageError(where, "it does not follow the schema", fix) from error
        if report.site != site or report.step > report.steps:
            raise MessageError(where, "it is in another site's name, or past its end", fix)
        return report


def progress_routes(desk: ProgressDesk, guard: CallGuard) -> list[Route]:
    """The route.

    Args:
        desk: Takes reports.
        guard: Lets sites through.
    """

    async def progress(request: Request) -> Response:
        data = await read_small(request, limit_bytes=_MAX_BYTES)
        call = guard.admit(request.headers, method=request.method, path=request.url.path)
        if call.size_bytes != len(data):
            raise CallRefusedError("call", "its body is not the one signed for", "Send it again.")
        await run_in_threadpool(desk.tell, SiteId(call.site), data)
        return JSONResponse({"status": "noted"})

    return [Route(PROGRESS, refusing(progress), methods=["POST"])]
