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


class LinkDownError(TransportError):
    """The other side cannot be reached."""

    code = "FV-TRAN-003"
    title = "link down"


class SiteRegistrationError(TransportError):
    """A site cannot be registered with the engine that carries messages."""

    code = "FV-TRAN-004"
    title = "site not registered"


class NotAdmittedError(TransportError):
    """The server does not let this site in."""

    code = "FV-TRAN-005"
    title = "site not admitted"


class RunEndedError(TransportError):
    """What was brought or asked belongs to a run of the engine that is over."""

    code = "FV-TRAN-006"
    title = "run of the engine over"


class StrangeBundleError(TransportError):
    """A run names an app bundle that is not fedvol's own."""

    code = "FV-TRAN-007"
    title = "unknown app bundle"


class BlobRefusedError(TransportError):
    """Weights cannot be fetched or brought: another digest, another size, or not allowed."""

    code = "FV-TRAN-008"
    title = "weights not carried"


class BlobElsewhereError(BlobRefusedError):
    """Bytes of weights do not follow those that are here, or others of them are still coming."""

    code = "FV-TRAN-031"
    title = "weights continued at another place"


class MessageRefusedError(TransportError):
    """The server does not take a message, however often it is brought."""

    code = "FV-TRAN-032"
    title = "message not taken"


class CallRefusedError(TransportError):
    """A call of the server's own routes does not prove whose it is."""

    code = "FV-TRAN-009"
    title = "call not proved"


class TooManyCallsError(TransportError):
    """Too many attempts in too short a time."""

    code = "FV-TRAN-028"
    title = "too many attempts"


class BodyTooLargeError(TransportError):
    """A body is larger than the route takes."""

    code = "FV-TRAN-030"
    title = "body too large"
