"""The tables behind `SiteStore`: proposals, consents and receipts at one hospital."""

from datetime import datetime

from sqlalchemy import ForeignKey, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fedvol.store.database import UtcTime
from fedvol.store.schema import Component

_NAME = String(200)
_DIGEST = String(64)


class SiteBase(DeclarativeBase):
    """What the tables of a site have in common."""


class ProposalRow(SiteBase):
    """One proposal, as the server signed it."""

    __tablename__ = "site_proposals"
    id: Mapped[str] = mapped_column(_NAME, primary_key=True)
    kind: Mapped[str] = mapped_column(_NAME)
    run: Mapped[str] = mapped_column(_NAME, index=True)
    digest: Mapped[str] = mapped_column(_DIGEST, index=True)
    state: Mapped[str] = mapped_column(_NAME)
    signed: Mapped[bytes] = mapped_column(LargeBinary)
    signer: Mapped[str] = mapped_column(_DIGEST)
    arrived: Mapped[datetime] = mapped_column(UtcTime)


class ConsentRow(SiteBase):
    """One answer to a proposal; answers are added, never changed, and the newest counts."""

    __tablename__ = "site_consents"
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    proposal: Mapped[str] = mapped_column(ForeignKey("site_proposals.id"), index=True)
    decision: Mapped[str] = mapped_column(_NAME)
    source: Mapped[str] = mapped_column(_NAME)
    by: Mapped[str] = mapped_column(_NAME)
    reason: Mapped[str] = mapped_column(Text)
    code: Mapped[str] = mapped_column(_NAME)
    at: Mapped[datetime] = mapped_column(UtcTime)
    signed: Mapped[bytes] = mapped_column(LargeBinary)
    delivered: Mapped[datetime | None] = mapped_column(UtcTime)
    answer: Mapped[str] = mapped_column(_NAME)


class ReceiptRow(SiteBase):
    """The server's word that a contribution of this site was taken into a closed round."""

    __tablename__ = "site_receipts"
    run: Mapped[str] = mapped_column(_NAME, primary_key=True)
    stage: Mapped[int] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    answer: Mapped[str] = mapped_column(_DIGEST)
    signed: Mapped[str] = mapped_column(Text)


SITE = Component(name="site", metadata=SiteBase.metadata, head="site_0001", adopted=1)
