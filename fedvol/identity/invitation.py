"""`Invitation`: the one line that an operator hands to a hospital.

The line is `fedvol-invite-1:` and URL-safe base64 of the invitation's canonical JSON with an
8-byte check sum behind it. The check sum catches slips, not forgers: whoever can change the line on
its way can make another. So it goes by a way that only the hospital reads, and what binds the
hospital in the end is the fingerprint that people compare before the root signs.
"""

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated, Self

from pydantic import Field

from fedvol.config.addresses import Address
from fedvol.config.base import Section
from fedvol.config.data import Name
from fedvol.errors import InvitationError, InvitationExpiredError
from fedvol.identity.certificates import certificate_from_text, certificate_text
from fedvol.identity.documents import read_document, write_document
from fedvol.identity.keys import PublicKey, PublicKeyField
from fedvol.identity.moments import Moment, write_moment
from fedvol.identity.roster import Consortium
from fedvol.identity.tags import tagged_digest

PREFIX = "fedvol-invite-1:"
MAX_LINE = 4000
"""A terminal takes no more than 4095 characters on one line."""
_CHECK_BYTES = 8
_TOKEN_BYTES = 32

Token = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Invitation(Section):
    """What a hospital needs to join."""

    consortium: Consortium
    """Who invites."""
    site: Name
    """The name that the site will bear."""
    server: Address
    """Where the server listens: `host:port`."""
    authority: str
    """The certificate authority to trust for that server alone: DER in base64."""
    root: PublicKeyField
    """The root whose rosters the site will accept."""
    token: Token = Field(repr=False)
    """Lets its holder enrol once: 32 random bytes."""
    expires: Moment
    """From when on the token is refused."""

    @classmethod
    def new(
        cls,
        *,
        consortium: str,
        site: str,
        server: str,
        authority_pem: bytes,
        root: PublicKey,
        expires: datetime,
    ) -> Self:
        """An invitation with a fresh token.

        Raises:
            CertificateError: The authority's certificate cannot be read.
            ValidationError: A name or the address is malformed.
        """
        return cls(
            consortium=consortium,
            site=site,
            server=server,
            authority=certificate_text(authority_pem),
            root=root,
            token=secrets.token_hex(_TOKEN_BYTES),
            expires=expires,
        )

    @property
    def authority_pem(self) -> bytes:
        """The authority's certificate as TLS libraries want it.

        Raises:
            CertificateError: It is none.
        """
        return certificate_from_text(self.authority)

    def line(self) -> str:
        """The line to hand over; it is a secret until it is used.

        Raises:
            InvitationError: It does not fit on a line.
        """
        data = write_document(self)
        line = PREFIX + urlsafe_b64encode(data + _check_sum(data)).decode().rstrip("=")
        if len(line) > MAX_LINE:
            raise InvitationError(
                f"invitation of {self.site}",
                f"it has {len(line)} characters, and a terminal takes {MAX_LINE} on one line",
                "Give the server a certificate of an authority with a shorter certificate.",
            )
        return line

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read a line as a person pasted it; line breaks and spaces in it are dropped.

        Raises:
            InvitationError: It is no invitation, of another version, cut, or changed.
        """
        bare = "".join(line.split())
        if not bare.startswith(PREFIX):
            raise _damaged(f"it does not begin with {PREFIX}")
        try:
            data = _decoded(bare.removeprefix(PREFIX))
            invitation = read_document(cls, data, limit_bytes=MAX_LINE)
        except ValueError as error:
            raise _damaged(str(error)) from error
        invitation.authority_pem  # noqa: B018  # a damaged certificate is told here, not on dialling
        return invitation

    def require_valid(self, now: datetime) -> None:
        """Refuse an invitation that the server would refuse for its age.

        Raises:
            InvitationExpiredError: Its time is over.
        """
        require_in_time(self.site, expires=self.expires, now=now)


def token_digest(token: str) -> str:
    """What the server keeps of a token, and finds its invitation by: too little to use it."""
    return tagged_digest("token", token.encode()).hex()


def require_in_time(site: str, *, expires: datetime, now: datetime) -> None:
    """Refuse an invitation whose time is over.

    Raises:
        InvitationExpiredError: It is over.
    """
    if now >= expires:
        raise InvitationExpiredError(
            f"site {site}",
            f"the invitation held until {write_moment(expires)}",
            "Check this machine's clock; if it is right, ask the operator for a new invitation.",
        )


def _decoded(text: str) -> bytes:
    if len(text) > MAX_LINE:
        raise ValueError("it is too long")
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The decoder passes over letters it does not know and over spare bits: no second spelling.
    if urlsafe_b64encode(raw).decode().rstrip("=") != text:
        raise ValueError("a letter was changed, lost or added")
    data, check_sum = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
    if check_sum != _check_sum(data):
        raise ValueError("a letter was changed, lost or added")
    return data


def _check_sum(data: bytes) -> bytes:
    return tagged_digest("invitation", data)[:_CHECK_BYTES]


def _damaged(reason: str) -> InvitationError:
    return InvitationError(
        "invitation",
        f"the line is damaged: {reason}",
        "Copy the whole line again; if that does not help, ask the operator for a new one.",
    )
