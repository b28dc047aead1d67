"""A site that changes its mind whenever a test says so."""

from fedvol.errors import ConsentMissingError, PolicyRefusedError
from fedvol.federation import Request
from fedvol.types import Digest


class Agreement:
    """An `Agreement` of a signed site; `now` is its terms, None that it does not agree."""

    def __init__(self) -> None:
        self.now: Digest | None = Digest("5" * 64)

    def withdraw(self) -> None:
        self.now = None

    def tighten(self) -> None:
        self.now = Digest("6" * 64)

    def terms(self, request: Request) -> Digest:
        if self.now is None:
            raise ConsentMissingError(f"run {request.run}", "nobody approves", "Ask.")
        return self.now

    def require_still(self, request: Request, *, terms: Digest) -> None:
        if self.terms(request) != terms:
            raise PolicyRefusedError(f"run {request.run}", [])
