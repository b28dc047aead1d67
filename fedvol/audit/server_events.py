"""What a server writes down: what it asked, what it took, and who did what with it."""

from dataclasses import dataclass
from typing import ClassVar

from fedvol.audit.events import event_json
from fedvol.types import Digest, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSent:
    """One message to one site, written down before it goes; once more if it goes once more.

    Attributes:
        message: Its digest; the site's log names the same.
        site: Who is asked.
        run: The run it belongs to.
        plan: Digest of the run's plan, or of what is proposed.
        stage: Index of the stage.
        round: Round of the stage; 0 before any.
        action: What is asked.
        tensors: Digest of the file of tensors that goes with it; empty where none does.
        size_bytes: Bytes as carried, tensors included.
    """

    kind: ClassVar[str] = "request"

    message: Digest
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyReceived:
    """What came back for a request: taken as its site's, whole, or refused.

    Attributes:
        message: Its digest; the site's log names the same where the site sent it. Empty where it
            could not be read.
        request: Digest of the request.
        site: Who was asked.
        sender_key: Fingerprint of the key that it names; proven where it was taken.
        run: The run it belongs to.
        plan: Digest of the run's plan, or of what is proposed.
        stage: Index of the stage.
        round: Round of the stage; 0 before any.
        action: What was asked.
        tensors: Digest of the file of tensors that came with it; empty where none did.
        size_bytes: Bytes as carried, tensors included.
        code: Empty if it was taken, else the error code for which it was refused. Then nothing that
            it says is repeated here; the fields are those of the request.
    """

    message: Digest
    request: Digest
    site: str
    sender_key: str
    run: str
    plan: Digest
    stage: int
    round: int
    action: str
    tensors: Digest
    size_bytes: int
    code: str = ""

    @property
    def kind(self) -> str:
        """`reply_taken` or `reply_refused`."""
        return "reply_refused" if self.code else "reply_taken"

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAction:
    """Something that a user is about to do, or to try, under their own name.

    Attributes:
        user: Who.
        role: operator, observer or auditor.
        action: What, as the command names it, such as `run start`.
        subject: On what: a run, a site or a user.
        call: Sixteen hexadecimal digits, which the line of its outcome repeats.
    """

    kind: ClassVar[str] = "operator"

    user: str
    role: str
    action: str
    subject: str
    call: str

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind, foreign=("subject",))


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorOutcome:
    """How that ended. Where no line says so, the server died meanwhile: it may have been done.

    Attributes:
        user: Who.
        action: What.
        subject: On what.
        call: Which call it was.
        code: Empty if it was done, else the error code for which it was not; `fault` where our own
            code failed, and some of it may have been done.
    """

    kind: ClassVar[str] = "operator_outcome"

    user: str
    action: str
    subject: str
    call: str
    code: str = ""

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind, foreign=("subject",))


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupTaken:
    """A copy of the server was written: its records, its weights, this log, and its keys.

    Attributes:
        backup: Digest of the backup's manifest.
        records: Lines of this log that the copy holds.
        head: Hash of the last of them.
    """

    kind: ClassVar[str] = "backup"

    backup: Digest
    records: int
    head: Digest

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRestored:
    """From here on the server goes on from a backup; what it did after that is not above.

    Attributes:
        backup: Digest of the backup's manifest.
        taken: When it was taken.
        records: Lines of this log that were in it.
        head: Hash of the last of them.
    """

    kind: ClassVar[str] = "restored"

    backup: Digest
    taken: str
    records: int
    head: Digest

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallersRefused:
    """Calls that were turned away at the door since the last such line.

    They are of callers who did not show to be a site that takes part, or a user: strangers, and
    known sites that are suspended, whose clock is wrong, or whose call was replayed or damaged.

    Attributes:
        port: `public`, or `private`, which nobody but this machine reaches.
        address: Where they came from, as the connection tells: an IPv4 address, a network of 64
            bits of IPv6, or `others` for all those beyond the addresses that are named.
        status: The HTTP status they were answered.
        count: How many.
        first: When the first of them came, UTC.
        last: When the last did.
    """

    kind: ClassVar[str] = "callers_refused"

    port: str
    address: str
    status: int
    count: int
    first: str
    last: str

    def as_json(self) -> dict[str, Json]:
        """Every field by name."""
        return event_json(self, kind=self.kind)
