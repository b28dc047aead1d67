"""Who someone is could not be proven: keys, signatures, rosters, invitations, certificates.

A branch of `TransportError`, with its status 6.
"""

from fedvol.errors.transport import TransportError


class IdentityError(TransportError):
    """A key, a signature, the roster, an invitation or a certificate does not do."""

    code = "FV-TRAN-010"
    title = "identity not proven"


class KeyFileError(IdentityError):
    """A private key's file is absent, open to others, damaged, locked or in the way."""

    code = "FV-TRAN-011"
    title = "key file unusable"


class SignatureError(IdentityError):
    """A signature is not of this key, this purpose and this content."""

    code = "FV-TRAN-012"
    title = "signature does not fit"


class RosterError(IdentityError):
    """A roster, or a draft of one, is malformed or of another consortium."""

    code = "FV-TRAN-013"
    title = "roster unusable"


class RosterRootError(RosterError):
    """A roster is not signed by the root this party pinned."""

    code = "FV-TRAN-014"
    title = "roster of another root"


class RosterOutdatedError(RosterError):
    """A roster is older than the one already held."""

    code = "FV-TRAN-015"
    title = "roster outdated"


class RosterConflictError(RosterError):
    """Two different rosters bear one version."""

    code = "FV-TRAN-016"
    title = "two rosters of one version"


class RosterExpiredError(RosterError):
    """A roster's time is over."""

    code = "FV-TRAN-017"
    title = "roster expired"


class RosterNotYetValidError(RosterError):
    """A roster's time has not begun, or a clock is wrong."""

    code = "FV-TRAN-018"
    title = "roster not yet valid"


class RosterDuplicateError(RosterError):
    """A name or a key stands twice in a roster."""

    code = "FV-TRAN-019"
    title = "name or key twice in the roster"


class SiteNotInRosterError(IdentityError):
    """The roster does not list this site."""

    code = "FV-TRAN-020"
    title = "site not in the roster"


class SiteNotActiveError(IdentityError):
    """The roster lists this site as suspended or revoked."""

    code = "FV-TRAN-021"
    title = "site suspended or revoked"


class InvitationError(IdentityError):
    """An invitation is damaged, or cannot be made."""

    code = "FV-TRAN-022"
    title = "invitation damaged"


class InvitationExpiredError(IdentityError):
    """An invitation was not used in time."""

    code = "FV-TRAN-023"
    title = "invitation expired"


class InvitationRefusedError(IdentityError):
    """The server does not know the token, or it was used already."""

    code = "FV-TRAN-024"
    title = "invitation refused"


class CertificateError(IdentityError):
    """A TLS certificate is damaged, out of date, or fits neither key, address nor authority."""

    code = "FV-TRAN-025"
    title = "certificate unusable"


class InvitationUsedError(InvitationRefusedError):
    """The token of an invitation was used before."""

    code = "FV-TRAN-026"
    title = "invitation used already"


class InvitationNameError(InvitationRefusedError):
    """The token belongs to an invitation of another site."""

    code = "FV-TRAN-027"
    title = "invitation of another site"


class OperatorRefusedError(IdentityError):
    """A call of the operators' interface has no user's token, or the user may not do this."""

    code = "FV-TRAN-029"
    title = "operator not allowed"
