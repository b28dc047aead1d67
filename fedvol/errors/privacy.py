"""The site's privacy officer must act: status 4."""

from fedvol.errors.base import FedvolError


class PrivacyError(FedvolError):
    """The site's own rule forbids it."""

    code = "FV-PRIV-000"
    title = "refused by the site's rule"
    exit_status = 4


class NonFiniteUpdateError(PrivacyError):
    """An update holds NaN or infinite values and does not leave the site."""

    code = "FV-PRIV-001"
    title = "update not finite"


class ReleaseRefusedError(PrivacyError):
    """What was about to leave is not what the plan names."""

    code = "FV-PRIV-002"
    title = "release refused"


class CohortTooSmallError(PrivacyError):
    """The site has fewer training subjects than its own floor."""

    code = "FV-PRIV-003"
    title = "cohort below the site's floor"


class AuditError(PrivacyError):
    """The audit log cannot be written or does not verify; nothing leaves."""

    code = "FV-PRIV-004"
    title = "audit log unusable"
