"""What is written down about everything that leaves, before it leaves."""

from dataclasses import dataclass
from typing import Protocol

from fedvol.types import Digest, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One contribution, described without its content.

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
        digest: SHA-256 over values and tensors.
        suppressed: Figures withheld because too few cases are behind them.
        code: Error code of a refusal; empty otherwise.
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

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return {
            "kind": self.kind,
            "site": self.site,
            "recipient": self.recipient,
            "run": self.run,
            "plan": self.plan,
            "stage": self.stage,
            "round": self.round,
            "action": self.action,
            "form": self.form,
            "num_tensors": self.num_tensors,
            "size_bytes": self.size_bytes,
            "digest": self.digest,
            "suppressed": self.suppressed,
            "code": self.code,
        }


class AuditEvent(Protocol):
    """Something that is worth a line in an audit log."""

    def as_json(self) -> dict[str, Json]:
        """Its kind and every field by name."""
        ...


class AuditSink(Protocol):
    """Where audit records go."""

    def append(self, event: AuditEvent, /) -> None:
        """Write one event; it is durable when this returns.

        Raises:
            AuditError: It could not be written.
        """
        ...
