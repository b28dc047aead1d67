"""What our HTTP routes share: small bodies, and refusals that say a code and nothing else."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fedvol.errors import (
    BodyTooLargeError,
    CallRefusedError,
    ConsentRefusedError,
    FedvolError,
    InvitationError,
    InvitationExpiredError,
    InvitationRefusedError,
    PlanMismatchError,
    ProposalUnknownError,
    RosterDuplicateError,
    StoreError,
    TooManyCallsError,
)

MAX_SMALL_BYTES = 64 << 10

Handler = Callable[[Request], Awaitable[Response]]

_STATUS: tuple[tuple[type[FedvolError], int], ...] = (
    (CallRefusedError, 401),
    (ProposalUnknownError, 404),
    (PlanMismatchError, 409),
    (ConsentRefusedError, 409),
    (InvitationError, 403),
    (InvitationExpiredError, 403),
    (InvitationRefusedError, 403),
    (RosterDuplicateError, 403),
    (TooManyCallsError, 429),
    (StoreError, 503),
)

_log = logging.getLogger(__name__)


def refusing(handler: Handler) -> Handler:
    """A public route whose refusals give a status and a code, no word of ours or of the caller."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except FedvolError as error:
            _log.warning("call.refused", extra={"code": error.code, "route": request.url.path})
            return refusal(status_of(error), error.code)

    return answer


def refusal(status: int, code: str) -> Response:
    """A refusal as it travels."""
    return JSONResponse({"code": code}, status_code=status)


def status_of(error: FedvolError) -> int:
    """The HTTP status that an error answers with."""
    if isinstance(error, BodyTooLargeError):
        return 413
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 400


async def read_small(request: Request, *, limit_bytes: int = MAX_SMALL_BYTES) -> bytes:
    """A small body, whole.

    Raises:
        BodyTooLargeError: It is larger; nothing beyond the limit was read.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise BodyTooLargeError(
                "body of a call", f"it is larger than {limit_bytes} bytes", "Send less."
            )
    return bytes(body)


@final
class Throttle:
    """Lets so many attempts through in so many seconds, whoever makes them.

    By address it would punish hospitals behind one proxy and spare whoever has many addresses.

    Args:
        attempts: How many.
        period_s: In how many seconds.
        now_s: Seconds that never go back.
    """

    def __init__(
        self, *, attempts: int, period_s: float, now_s: Callable[[], float] = monotonic
    ) -> None:
        self._attempts = attempts
        self._period_s = period_s
        self._now_s = now_s
        self._made: deque[float] = deque()

    def admit(self) -> None:
        """Count an attempt.

        Raises:
            TooManyCallsError: There were too many; this one is not counted.
        """
        now_s = self._now_s()
        while self._made and now_s - self._made[0] >= self._period_s:
            self._made.popleft()
        if len(self._made) >= self._attempts:
            raise TooManyCallsError(
                "enrolment",
                f"{self._attempts} attempts were made within {self._period_s:.0f} s",
                "Wait a minute, then try again.",
            )
        self._made.append(now_s)
