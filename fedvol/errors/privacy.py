"""The site's privacy officer must act: status 4."""

from collections.abc import Sequence

from fedvol.errors.base import FedvolError, Problem


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


class PolicyRefusedError(PrivacyError):
    """What is proposed is against the site's policy; carries every rule it is against."""

    code = "FV-PRIV-020"
    title = "against the site's policy"

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        num = len(problems)
        noun = "rule" if num == 1 else "rules"
        super().__init__(
            where,
            f"it is against {num} {noun} of this site",
            "Ask for another study, or change the policy in site.toml if the hospital decides so.",
        )
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [f"{self.code} {self.where}: {self.what}", *(f"  {p}" for p in self.problems)]
        return "\n".join(lines)


class ConsentMissingError(PrivacyError):
    """Nobody at the site approved this run, or the approval was withdrawn."""

    code = "FV-PRIV-021"
    title = "no consent"


class OutsideHoursError(PrivacyError):
    """The site's machine does not train at this time of day."""

    code = "FV-PRIV-022"
    title = "outside the site's hours"


class SitePausedError(PrivacyError):
    """Somebody at the site has paused it."""

    code = "FV-PRIV-023"
    title = "site paused"
