"""What a site writes down besides its contributions: consents, its policy's word, what it got."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from fedvol.audit.events import event_json
from fedvol.types import Digest, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentDecision:
    """Somebody at the site answered a proposal, or withdrew the answer.

    Attributes:
        consent: Names the consent; contributions name it again.
        proposal: Digest of what was proposed, terms included.
        proposed: Whether a run or a fingerprint was proposed.
        run: The run, where it has a name already.
        decision: The answer.
        by: Who gave it: a person, or the rule of `site.toml` that answered.
        reason: Their words; may be empty. They stay at the site.
    """

    kind: ClassVar[str] = "consent"

    consent: str
    proposal: Digest
    proposed: Literal["run", "fingerprint"]
    run: str
    decision: Literal["approved", "refused", "withdrawn"]
    by: str
    reason: str = ""

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePause:
    """Somebody at the site had it answer nothing for a while, or answer again.

    Attributes:
        paused: Whether it is paused from now on.
        by: Who decided it.
        reason: Their words; may be empty. They stay at the site.
    """

    kind: ClassVar[str] = "pause"

    paused: bool
    by: str
    reason: str = ""

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDecision:
    """The site's own policy judged a request or a proposal.

    Attributes:
        run: The run it belongs to.
        plan: Digest of the run's plan, or of what is proposed.
        stage: Index of the stage.
        round: Round of the stage; 0 before any.
        action: What was asked.
        message: Digest of the message that asked.
        rule: Key of `site.toml` that decided, such as `policy.max_update_norm`.
        decision: What the policy says.
        code: Error code of a refusal; empty otherwise.
    """

    kind: ClassVar[str] = "policy"

    run: str
    plan: Digest
    stage: int
    round: int
    action: str
    message: Digest
    rule: str
    decision: Literal["allowed", "refused"]
    code: str = ""

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReceived:
    """A message of the server arrived and was checked.

    Attributes:
        message: Its digest; the server's log names the same.
        sender_key: Fingerprint of the key that signed it; empty if none did.
        site: Who is asked.
        run: The run it belongs to.
        plan: Digest of the run's plan, or of what is proposed.
        stage: Index of the stage.
        round: Round of the stage; 0 before any.
        action: What is asked.
        num_tensors: Tensors that came with it.
        size_bytes: Bytes as carried.
        code: Empty, or the error code for which it was turned away unread. Then every other field
            is only what the message claims.
    """

    kind: ClassVar[str] = "received"

    message: Digest
    sender_key: str
    site: str
    run: str
    plan: Digest
    stage: int
    round: int
    action: str
    num_tensors: int
    size_bytes: int
    code: str = ""

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind, foreign=("site", "run", "plan", "action"))
