"""From a proposal's signed bytes to what a site is asked to do."""

import json
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, JsonValue, ValidationError

from fedvol.config import OpenStudy, Study
from fedvol.config.base import Section
from fedvol.config.data import Name
from fedvol.errors import FedvolError, MessageError
from fedvol.identity import Moment, PublicKey, Tag, open_body
from fedvol.plan import Plan, Proposal
from fedvol.store import HeldProposal
from fedvol.types import Digest, RunId

MAX_PROPOSAL_BYTES = 16 << 20


class _Payload(Section):
    id: Name
    kind: Annotated[str, Field(pattern="^(run|fingerprint)$")]
    run: Name
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    plan: dict[str, JsonValue]
    words: Annotated[str, Field(max_length=4000)]
    operator: Annotated[str, Field(max_length=200)]
    created: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What a site is asked to agree to.

    Attributes:
        id: Name of the proposal.
        run: Name of the run or job that it would become.
        content: The run's plan; or what is to be counted before there is one.
        words: What the operator writes of it.
        operator: Who proposed it.
        created: When, as the server says.
    """

    id: str
    run: RunId
    content: Plan | Proposal
    words: str
    operator: str
    created: str

    @property
    def digest(self) -> Digest:
        """Digest of the plan, or of what is to be counted."""
        return self.content.digest

    @property
    def study(self) -> Study | OpenStudy:
        """The study behind it."""
        return self.content.study

    @property
    def plan(self) -> Plan | None:
        """The run's plan; None of a fingerprint job."""
        return self.content if isinstance(self.content, Plan) else None


def open_proposal(signed: bytes, *, server: PublicKey, site: str, where: str) -> Proposed:
    """What the server proposes, once it is certain that it does.

    Args:
        signed: The proposal as it arrived.
        server: The server's identity, from the roster.
        site: The site that it must name.
        where: For errors.

    Raises:
        SignatureError: Another key signed it, or something else.
        MessageError: It is malformed, of another version, does not name this site, or its digest
            is not that of its content.
    """
    said, content = _content(signed, server=server, where=where)
    if content.digest != said.digest:
        raise _refused(where, "its digest is not that of its content")
    if site not in content.sites:
        raise _refused(where, "it does not name this site")
    return Proposed(
        id=said.id,
        run=RunId(said.run),
        content=content,
        words=said.words,
        operator=said.operator,
        created=said.created.isoformat(),
    )


def read_proposal(record: HeldProposal, *, site: str) -> Proposed:
    """A proposal that was kept; it is checked again, against the key of its arrival.

    Raises:
        SignatureError: The record was changed.
        MessageError: It cannot be read by this version.
    """
    return open_proposal(
        record.signed,
        server=PublicKey(record.signer),
        site=site,
        where=f"proposal {record.id}",
    )


def study_name(record: HeldProposal) -> str | None:
    """The name of a kept proposal's study; None of one that this version cannot read."""
    where = f"proposal {record.id}"
    try:
        return _content(record.signed, server=PublicKey(record.signer), where=where)[1].study.name
    except FedvolError:
        return None


def _content(signed: bytes, *, server: PublicKey, where: str) -> tuple[_Payload, Plan | Proposal]:
    payload = open_body(
        signed, tag=Tag.PROPOSAL, signer=server, where=where, limit_bytes=MAX_PROPOSAL_BYTES
    )
    try:
        said = _Payload.model_validate_json(json.dumps(payload))
        text = json.dumps(said.plan)
        if said.kind == "run":
            return said, Plan.model_validate_json(text)
        return said, Proposal.model_validate_json(text)
    except (ValidationError, FedvolError) as error:
        raise _refused(where, "its content cannot be read by this version of fedvol") from error


def _refused(where: str, what: str) -> MessageError:
    return MessageError(
        where, what, "Ask the operator which version of fedvol made it; approve nothing meanwhile."
    )
