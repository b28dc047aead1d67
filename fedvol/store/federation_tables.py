"""The tables behind `FederationStore`."""

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fedvol.store.database import UtcTime
from fedvol.store.schema import Component
from fedvol.types import Json

_NAME = String(200)
_DIGEST = String(64)
_KEY = String(200)


class FederationBase(DeclarativeBase):
    """What the tables of a federation have in common."""


class UserRow(FederationBase):
    """One person who may talk to the operators' interface; never deleted, so names stay theirs."""

    __tablename__ = "users"
    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    role: Mapped[str] = mapped_column(_NAME)
    token_digest: Mapped[str] = mapped_column(_DIGEST, unique=True)
    created: Mapped[datetime] = mapped_column(UtcTime)
    removed: Mapped[datetime | None] = mapped_column(UtcTime)


class InvitationRow(FederationBase):
    """One invitation: enough to know its token, too little to use it."""

    __tablename__ = "invitations"
    token_digest: Mapped[str] = mapped_column(_DIGEST, primary_key=True)
    site: Mapped[str] = mapped_column(_NAME, index=True)
    expires: Mapped[datetime] = mapped_column(UtcTime)
    used: Mapped[datetime | None] = mapped_column(UtcTime)
    created: Mapped[datetime] = mapped_column(UtcTime)
    created_by: Mapped[str] = mapped_column(_NAME)


class SiteRow(FederationBase):
    """One hospital: what the roster says of it, what it brought since, what the operator wants."""

    __tablename__ = "sites"
    name: Mapped[str] = mapped_column(_NAME, primary_key=True)
    status: Mapped[str] = mapped_column(_NAME)
    wanted: Mapped[str] = mapped_column(_NAME)
    identity: Mapped[str] = mapped_column(_KEY)
    node: Mapped[str] = mapped_column(_KEY)
    next_identity: Mapped[str] = mapped_column(_KEY)
    next_node: Mapped[str] = mapped_column(_KEY)
    software: Mapped[str] = mapped_column(_NAME)
    enrolled: Mapped[datetime | None] = mapped_column(UtcTime)


class RosterRow(FederationBase):
    """One roster that the root signed."""

    __tablename__ = "rosters"
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    accepted: Mapped[datetime] = mapped_column(UtcTime)
    accepted_by: Mapped[str] = mapped_column(_NAME)


class ProposalRow(FederationBase):
    """What is put to sites: a run with its plan."""

    __tablename__ = "proposals"
    id: Mapped[str] = mapped_column(_NAME, primary_key=True)
    kind: Mapped[str] = mapped_column(_NAME)
    run: Mapped[str] = mapped_column(_NAME, index=True)
    plan_digest: Mapped[str] = mapped_column(_DIGEST)
    sites: Mapped[list[Json]] = mapped_column(JSON)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created: Mapped[datetime] = mapped_column(UtcTime)
    created_by: Mapped[str] = mapped_column(_NAME)


class ConsentRow(FederationBase):
    """One word of a site on a proposal; the last one counts, and all are kept."""

    __tablename__ = "consents"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    proposal: Mapped[str] = mapped_column(ForeignKey("proposals.id"), index=True)
    site: Mapped[str] = mapped_column(_NAME, index=True)
    decision: Mapped[str] = mapped_column(_NAME)
    reason: Mapped[str] = mapped_column(_NAME)
    signed: Mapped[bytes] = mapped_column(LargeBinary)
    said: Mapped[datetime] = mapped_column(UtcTime)
    recorded: Mapped[datetime] = mapped_column(UtcTime)


class RunRequestRow(FederationBase):
    """What operators want of a run."""

    __tablename__ = "run_requests"
    run: Mapped[str] = mapped_column(ForeignKey("proposals.id"), primary_key=True)
    wanted: Mapped[str] = mapped_column(_NAME)
    by: Mapped[str] = mapped_column(_NAME)
    at: Mapped[datetime] = mapped_column(UtcTime)
    queued: Mapped[datetime] = mapped_column(UtcTime)
    reason: Mapped[str] = mapped_column(Text)


class AnswerRow(FederationBase):
    """The last signed answer of a site to a question that brings a contribution."""

    __tablename__ = "answers"
    run: Mapped[str] = mapped_column(_NAME, primary_key=True)
    stage: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(_NAME, primary_key=True)
    digest: Mapped[str] = mapped_column(_DIGEST)
    tensors: Mapped[str | None] = mapped_column(_DIGEST)


class ReceiptRow(FederationBase):
    """The server's signed word that a contribution is in a closed round."""

    __tablename__ = "receipts"
    run: Mapped[str] = mapped_column(_NAME, primary_key=True)
    stage: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(_NAME, primary_key=True)
    signed: Mapped[bytes] = mapped_column(LargeBinary)


class ActionRow(FederationBase):
    """One thing that somebody did through the operators' interface; never deleted."""

    __tablename__ = "operator_actions"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UtcTime)
    user: Mapped[str] = mapped_column(_NAME)
    action: Mapped[str] = mapped_column(_NAME)
    subject: Mapped[str] = mapped_column(_NAME)
    outcome: Mapped[str] = mapped_column(_NAME)


FEDERATION = Component(
    name="federation", metadata=FederationBase.metadata, head="federation_0001", adopted=1
)
