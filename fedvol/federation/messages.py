"""What server and site say to each other, as values; `transport` carries them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fedvol.errors import FedvolError
from fedvol.types import Digest, Json, RunId, SiteId, State


class Action(StrEnum):
    """What a site is asked to do; one message type each."""

    HEALTH = "query.health"
    """Say whether it would train now, and with how much data."""
    FINGERPRINT = "query.fingerprint"
    """Count the training cases, so that a plan can be made; a small job before the run."""
    PRETRAIN = "train.pretrain"
    """Train on unlabelled cases from the global state and return an update."""
    FINETUNE = "train.finetune"
    """Train on the global state and return an update."""
    PERSONALISE = "train.personalise"
    """Train a model of the site's own, keep it, and say how it went."""
    VALIDATE = "evaluate.val"
    """Judge the stage's model on the validation cases."""
    TEST = "evaluate.test"
    """Judge the stage's model on the test cases, with replicates for intervals."""
    NORMS = "query.norms"
    """Return the tensors that stayed local, once, when a stage ends."""


TRAINING = frozenset({Action.PRETRAIN, Action.FINETUNE, Action.PERSONALISE})
"""Actions in which a site trains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to one site.

    Attributes:
        run: The run it belongs to.
        plan: Digest of the run's plan, or of what is proposed to the sites before there is one.
        stage: Index of the stage in the plan.
        round: 1 for the first round; 0 before any.
        site: Who is asked.
        action: What is asked.
        state: Tensors of the exchange policy; empty where none are needed.
        arguments: Further values the action needs.
        limit_s: Seconds after which the answer is no longer waited for.
    """

    run: RunId
    plan: Digest
    stage: int
    round: int
    site: SiteId
    action: Action
    state: State
    arguments: Mapping[str, Json]
    limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer as it arrived, before it was checked.

    Attributes:
        run: The run that is answered.
        stage: The stage that is answered.
        round: The round that is answered.
        site: Who answers.
        action: What is answered.
        code: Empty, or the code of the error that kept the site from answering.
        title: Fixed words that belong to `code`.
        tensors: An update, local tensors or statistics.
        values: What else the site says.
        bytes_up: Size of the answer as carried.
        bytes_down: Size of the request as carried.
    """

    run: RunId
    stage: int
    round: int
    site: SiteId
    action: Action
    code: str
    title: str
    tensors: State
    values: Mapping[str, Json]
    bytes_up: int
    bytes_down: int

    @classmethod
    def failed(cls, request: Request, kind: type[FedvolError]) -> "Reply":
        """The reply in the stead of a site that gave none, with the code that says why."""
        return cls(
            run=request.run,
            stage=request.stage,
            round=request.round,
            site=request.site,
            action=request.action,
            code=kind.code,
            title=kind.title,
            tensors={},
            values={},
            bytes_up=0,
            bytes_down=0,
        )
