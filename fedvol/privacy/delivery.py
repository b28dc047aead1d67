"""`Delivery`: to whom a site's contributions go, under which consent, and in which message."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fedvol.audit import UNNAMED
from fedvol.federation import Request
from fedvol.types import Digest, Json, State


class MessageDigest(Protocol):
    """Names the message that will carry a contribution; only the link knows how it is written.

    It is asked before the contribution is made, so that the audit log can name the message before
    there is anything that could be sent.
    """

    def __call__(
        self,
        request: Request,
        /,
        *,
        values: Mapping[str, Json],
        tensors: State,
        code: str,
        title: str,
    ) -> Digest:
        """SHA-256 of the message that answers a request with these."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What the audit log says of each contribution besides what it holds.

    Attributes:
        recipient: Who receives it.
        recipient_key: Fingerprint of the recipient's identity key; empty where it has none.
        consent: The consent under which contributions leave; empty where none is asked.
        message: Names the message that carries a contribution; None where none does.
    """

    recipient: str = "server"
    recipient_key: str = ""
    consent: str = ""
    message: MessageDigest | None = None

    def digest(
        self,
        request: Request,
        *,
        values: Mapping[str, Json],
        tensors: State,
        code: str,
        title: str,
    ) -> Digest:
        """Digest of the message that will carry a contribution; empty where none does."""
        if self.message is None:
            return UNNAMED
        return self.message(request, values=values, tensors=tensors, code=code, title=title)


IN_PROCESS = Delivery()
"""A simulation's: no message, no consent, no key."""
