"""The server as a site's calls find it: away, or closed to this site."""

import ssl
from collections.abc import Generator
from contextlib import contextmanager

import httpx

from fedvol.errors import LinkDownError, NotAdmittedError


@contextmanager
def translated(where: str) -> Generator[None]:
    """Whatever the HTTP client raises is one error of ours.

    Args:
        where: For errors.

    Raises:
        LinkDownError: The server cannot be reached, or the link was cut.
    """
    try:
        yield
    except httpx.HTTPError as error:
        raise link_down(where, f"it cannot be reached ({_reason(error)})") from error


def link_down(where: str, what: str) -> LinkDownError:
    """The error of a server that is away."""
    return LinkDownError(
        where,
        what,
        "Try again later, as a running site does by itself; `fedvol site doctor` says what is in "
        "the way.",
    )


def not_admitted(where: str) -> NotAdmittedError:
    """The error of a server that lets others in."""
    return NotAdmittedError(
        where,
        "it does not let this site in",
        "Ask the operator whether the site is enrolled, suspended or revoked, and see that the "
        "clock is right.",
    )


def _reason(error: httpx.HTTPError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: {cause.verify_message.rstrip('.')}"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
