"""The operator of the run must act: status 5."""

from fedvol.errors.base import FedvolError


class FederationError(FedvolError):
    """A run cannot go on."""

    code = "FV-FED-000"
    title = "federation failed"
    exit_status = 5


class QuorumError(FederationError):
    """Fewer sites took part than the study's minimum."""

    code = "FV-FED-001"
    title = "too few sites"


class ContributionError(FederationError):
    """A site's reply does not fit the request: names, shapes, types, values or weights."""

    code = "FV-FED-002"
    title = "contribution invalid"


class PlanMismatchError(FederationError):
    """A site computes another network, plan or version than the run's."""

    code = "FV-FED-003"
    title = "plan differs"


class TrainingDivergedError(FederationError):
    """The loss became NaN or infinite at a site."""

    code = "FV-FED-004"
    title = "training diverged"


class TimeLimitError(FederationError):
    """A site did not answer within the stated limit."""

    code = "FV-FED-005"
    title = "time limit passed"


class NoLabelsError(FederationError):
    """A site has no labelled case for this stage and sits it out."""

    code = "FV-FED-006"
    title = "no labels"


class ProposalUnknownError(FederationError):
    """Nothing of this name was proposed to this site."""

    code = "FV-FED-007"
    title = "no such proposal"


class ConsentRefusedError(FederationError):
    """A site's word on a proposal came too late: a later one is held, or the run has ended."""

    code = "FV-FED-008"
    title = "consent not recorded"


class NoConsentError(FederationError):
    """A site has not agreed to this, or does not agree any more; it is not asked."""

    code = "FV-FED-009"
    title = "no consent"


class RunPausedError(FederationError):
    """The operator paused the run; nothing is lost."""

    code = "FV-FED-010"
    title = "run paused"


class RunStoppedError(FederationError):
    """The operator stopped the run for good."""

    code = "FV-FED-011"
    title = "run stopped"


class RunRequestError(FederationError):
    """A run cannot be proposed, started, paused, resumed or stopped as it stands."""

    code = "FV-FED-012"
    title = "run cannot do this now"


class SweepFailedError(FederationError):
    """Runs of a sweep failed; the figures of the others are written."""

    code = "FV-FED-013"
    title = "runs of the sweep failed"


class FeaturesCollapsedError(FederationError):
    """A pretrained network gives nearly the same features for every patch."""

    code = "FV-FED-014"
    title = "features collapsed"


class SecureSumFailedError(FederationError):
    """A round's secure sum could not be made; the round is abandoned, and no upload is of use."""

    code = "FV-FED-015"
    title = "secure sum failed"
