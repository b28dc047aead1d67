"""What our HTTP routes share: small bodies, and refusals that say a code and nothing else."""

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Network, ip_address
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
from fedvol.transport.network.public_gate import Scope

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


def caller_address(scope: Scope) -> str:
    """Who calls, as far as the connection tells; empty where it does not.

    Of IPv6 it is the network of 64 bits, all of which one caller may have to choose from.
    """
    client = scope.get("client")
    if client is None:
        return ""
    try:
        address = ip_address(client[0])
    except ValueError:
        return ""
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))


@final
class Throttle:
    """Lets so many attempts through in so many seconds: of each address, and of all together.

    Args:
        each: How many of one address.
        together: How many in all; no more addresses than that are held in memory.
        period_s: In how many seconds.
        now_s: Seconds that never go back.
    """

    def __init__(
        self,
        *,
        each: int,
        together: int,
        period_s: float,
        now_s: Callable[[], float] = monotonic,
    ) -> None:
        self._each = each
        self._together = together
        self._period_s = period_s
        self._now_s = now_s
        self._made: deque[tuple[float, str]] = deque()
        self._of = Counter[str]()

    def admit(self, address: str) -> None:
        """Count an attempt.

        Args:
            address: Who makes it.

        Raises:
            TooManyCallsError: There were too many; this one is not counted.
        """
        now_s = self._now_s()
        while self._made and now_s - self._made[0][0] >= self._period_s:
            _, old = self._made.popleft()
            self._of[old] -= 1
            if not self._of[old]:
                del self._of[old]
        for num, limit, whose in (
            (self._of[address], self._each, "from one address"),
            (len(self._made), self._together, "in all"),
        ):
            if num >= limit:
                raise TooManyCallsError(
                    "enrolment",
                    f"{limit} attempts were made {whose} within {self._period_s:.0f} s",
                    "Wait a minute, then try again.",
                )
        self._made.append((now_s, address))
        self._of[address] += 1
