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


class SecureSumError(PrivacyError):
    """A site leaves a secure sum, and gives nothing more of it away."""

    code = "FV-PRIV-030"
    title = "secure sum left"


class TooFewPartiesError(SecureSumError):
    """A secure sum has fewer parties than the site or the protocol asks for."""

    code = "FV-PRIV-031"
    title = "too few parties for a secure sum"


class AdvertInvalidError(SecureSumError):
    """Keys for a secure sum are not signed for this round, model, roster and terms."""

    code = "FV-PRIV-032"
    title = "keys not of this secure sum"


class PartiesInvalidError(SecureSumError):
    """The parties shown to a site cannot be those of one honest secure sum."""

    code = "FV-PRIV-033"
    title = "parties of the secure sum do not fit"


class ShareInvalidError(SecureSumError):
    """A share of another site's key does not open, or belongs to no key."""

    code = "FV-PRIV-034"
    title = "share of a key invalid"


class SecureSumOrderError(SecureSumError):
    """A step of a secure sum is asked for out of turn or twice, or a round's sum a second time."""

    code = "FV-PRIV-035"
    title = "step of the secure sum out of turn"


class SurvivorsDisputedError(SecureSumError):
    """Too few sites signed the same list of uploads."""

    code = "FV-PRIV-036"
    title = "list of uploads disputed"
