"""What a site writes down besides its contributions: consents, decisions, messages both ways."""

from collections.abc import Sequence
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
        reason: Their words; may be empty. They are never sent to the server.
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
    """The site decided whether it answers a request: consent, pause, policy and hours.

    Attributes:
        run: The run it belongs to.
        plan: Digest of the run's plan, or of what is proposed.
        stage: Index of the stage.
        round: Round of the stage; 0 before any.
        action: What was asked.
        rules: Keys of `site.toml` that it is against, such as `policy.max_rounds`.
        decision: Whether it is answered.
        code: Error code of a refusal; empty otherwise.
    """

    kind: ClassVar[str] = "policy"

    run: str
    plan: Digest
    stage: int
    round: int
    action: str
    rules: Sequence[str]
    decision: Literal["allowed", "refused"]
    code: str = ""

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReceived:
    """A message of the server arrived, and its signature was checked.

    Attributes:
        message: Its digest; the server's log names the same. Empty where it could not be read.
        sender_key: Fingerprint of the key that it names; proven where it was not turned away.
        site: Who is asked.
        run: The run it belongs to.
        plan: Digest of the run's plan, or of what is proposed.
        stage: Index of the stage.
        round: Round of the stage; 0 before any.
        action: What is asked.
        tensors: Digest of the file of tensors that goes with it; empty where none does.
        size_bytes: Bytes as carried, tensors included.
        code: Empty, or the error code for which it was turned away. Then nothing that it says is
            repeated here: run, plan and tensors are empty.
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
    tensors: Digest
    size_bytes: int
    code: str = ""

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind, foreign=("action",))


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSent:
    """A contribution became a signed message, which is kept from now on and may leave.

    The same message may leave again, where its request is asked again.

    Attributes:
        message: Its digest; the server's log names the same.
        request: Digest of the request that it answers.
        contribution: Digest of the contribution in it, as its own line has it.
        site: Whose it is.
        run: The run it belongs to.
        plan: Digest of the run's plan, or of what is proposed.
        stage: Index of the stage.
        round: Round of the stage; 0 before any.
        action: What was asked.
        tensors: Digest of the file of tensors that goes with it; empty where none does.
        size_bytes: Bytes as carried, tensors included.
    """

    kind: ClassVar[str] = "sent"

    message: Digest
    request: Digest
    contribution: Digest
    site: str
    run: str
    plan: Digest
    stage: int
    round: int
    action: str
    tensors: Digest
    size_bytes: int

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)
