"""Whoever runs the link between site and server must act: status 6."""

from fedvol.errors.base import FedvolError


class TransportError(FedvolError):
    """A message could not be carried."""

    code = "FV-TRAN-000"
    title = "link failed"
    exit_status = 6


class MessageError(TransportError):
    """A message is malformed."""

    code = "FV-TRAN-001"
    title = "message malformed"


class SiteFailedError(TransportError):
    """A site's process failed in a way it did not name."""

    code = "FV-TRAN-002"
    title = "site process failed"
