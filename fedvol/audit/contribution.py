"""`AuditRecord`: what is written down about everything that leaves a site, before it leaves."""

from dataclasses import dataclass

from fedvol.audit.events import event_json
from fedvol.types import Digest, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One contribution, described without its content.

    No other event has a `recipient`: a line that names one tells of something that left.

    Attributes:
        kind: What leaves: update, report, evaluation, norms, fingerprint, health or refusal.
        site: Whose it is.
        recipient: Who receives it.
        run: The run it belongs to.
        plan: Digest of the run's plan; of the proposal, for a fingerprint.
        stage: Index of the stage.
        round: Round of the stage; 0 before any.
        action: What was asked.
        form: How the tensors are protected, such as `plain float32`, and
            which companions of the weights are among them.
        num_tensors: Tensors that leave.
        size_bytes: Bytes of tensors and values.
        digest: SHA-256 over values and tensors; an `AnswerSent` names it with the message.
        suppressed: Figures withheld because too few cases are behind them.
        code: Error code of a refusal; empty otherwise.
        recipient_key: Fingerprint of the recipient's identity key; empty where it has none.
        consent: The consent under which it leaves; empty where none is asked, as in a simulation.
    """

    kind: str
    site: str
    recipient: str
    run: str
    plan: Digest
    stage: int
    round: int
    action: str
    form: str
    num_tensors: int
    size_bytes: int
    digest: Digest
    suppressed: int
    code: str
    recipient_key: str = ""
    consent: str = ""

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)
