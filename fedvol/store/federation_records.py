"""What `FederationStore` hands out: plain values, free of any database."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fedvol.types import Digest, RunId, SiteId


class Role(StrEnum):
    """What a user may do."""

    OPERATOR = "operator"
    """Everything."""
    OBSERVER = "observer"
    """See sites and runs."""
    AUDITOR = "auditor"
    """See sites, runs, users and what they did."""


class SiteStanding(StrEnum):
    """Where a site stands, or is to stand."""

    ENROLLED = "enrolled"
    """It brought its keys; the root has not signed a roster with it yet."""
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class Decision(StrEnum):
    """A site's word on a proposal."""

    APPROVE = "approve"
    REFUSE = "refuse"
    WITHDRAW = "withdraw"


class Wanted(StrEnum):
    """What operators want of a run."""

    PROPOSED = "proposed"
    """Sites are being asked."""
    STARTED = "started"
    """It is to go on until it ends."""
    PAUSED = "paused"
    """It is to wait after its round."""
    STOPPED = "stopped"
    """It is to end after its round."""
    ENDED = "ended"
    """It has ended; the run's own record says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord:
    """One user.

    Attributes:
        name: Under which everything they do is recorded.
        role: What they may do.
        created: When they were added, UTC.
        removed: When they were removed, UTC.
    """

    name: str
    role: Role
    created: datetime
    removed: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationRecord:
    """One invitation.

    Attributes:
        site: Who is invited.
        token_digest: By which its token is known.
        expires: From when on the token is refused, UTC.
        used: When the token was used, UTC.
        created: When it was made, UTC.
        created_by: By whom.
    """

    site: SiteId
    token_digest: str
    expires: datetime
    used: datetime | None
    created: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteKeysRecord:
    """A site's public keys, both in hexadecimal.

    Attributes:
        identity: Of its identity.
        node: Of its node.
    """

    identity: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRecord:
    """One hospital.

    Attributes:
        name: Its name.
        status: Where the current roster puts it.
        wanted: Where the operator wants it; the stricter of both holds at once.
        keys: Keys that the roster names; None before the first with this site.
        next_keys: Keys it brought since, which wait for the root.
        software: Version of fedvol it enrolled with.
        enrolled: When it enrolled last, UTC.
    """

    name: SiteId
    status: SiteStanding
    wanted: SiteStanding
    keys: SiteKeysRecord | None
    next_keys: SiteKeysRecord | None
    software: str
    enrolled: datetime | None

    @property
    def is_active(self) -> bool:
        """Whether it may take part now, as far as roster and operator say."""
        return self.status is SiteStanding.ACTIVE and self.wanted is SiteStanding.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class RosterEntry:
    """What a roster says of one site.

    Attributes:
        site: Which.
        status: Where it stands.
        keys: Its keys.
    """

    site: SiteId
    status: SiteStanding
    keys: SiteKeysRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalRecord:
    """What is put to sites.

    Attributes:
        id: Its name; a run's proposal bears the run's name.
        kind: `run` or `fingerprint`.
        run: The run it is about.
        plan_digest: Digest of its plan, which a consent names.
        sites: Whom it is put to, sorted.
        content: What a site is given of it, signed.
        created: When, UTC.
        created_by: By which user.
    """

    id: str
    kind: str
    run: RunId
    plan_digest: Digest
    sites: tuple[SiteId, ...]
    content: bytes
    created: datetime
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRecord:
    """One word of a site on a proposal.

    Attributes:
        proposal: Which.
        site: Whose word.
        decision: What it says.
        reason: Code of the reason; may be empty.
        signed: The word as the site signed it.
        said: The site's own time, UTC.
    """

    proposal: str
    site: SiteId
    decision: Decision
    reason: str
    signed: bytes
    said: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What operators want of a run.

    Attributes:
        run: The run.
        wanted: What.
        by: Which user said so last.
        at: When, UTC.
        queued: When it was last started; runs are taken in this order.
        reason: In the user's words, or why it ended.
    """

    run: RunId
    wanted: Wanted
    by: str
    at: datetime
    queued: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRecord:
    """A site's signed answer that brought a contribution.

    Attributes:
        digest: Of the answer as the site signed it.
        tensors: Of the file of tensors it names.
    """

    digest: Digest
    tensors: Digest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContributionKey:
    """Names one site's contribution.

    Attributes:
        run: The run.
        stage: Index of the stage.
        round: 1 for the first round.
        site: Whose.
    """

    run: RunId
    stage: int
    round: int
    site: SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRecord:
    """One thing that somebody did through the operators' interface.

    Attributes:
        at: When, UTC.
        user: Who; empty where nobody could be told by their token.
        action: What was called.
        subject: The site, run or user concerned.
        outcome: `done`, or the code of the refusal; `begun` before that, and for ever where the
            server died meanwhile.
    """

    at: datetime
    user: str
    action: str
    subject: str
    outcome: str
