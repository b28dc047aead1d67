"""The tables of a hospital: proposals, consents, receipts."""

import sqlalchemy as sa
from alembic import op

revision = "site_0001"
down_revision = None
branch_labels = ("site",)

NAME = sa.String(200)
DIGEST = sa.String(64)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make them, in the order in which they name each other."""
    _site_proposals()
    _site_receipts()
    _site_consents()


def _site_proposals() -> None:
    op.create_table(
        "site_proposals",
        sa.Column("id", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("run", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.Column("signer", DIGEST, nullable=False),
        sa.Column("arrived", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_site_proposals_digest"), "site_proposals", ["digest"])
    op.create_index(op.f("ix_site_proposals_run"), "site_proposals", ["run"])


def _site_receipts() -> None:
    op.create_table(
        "site_receipts",
        sa.Column("run", NAME, nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("answer", DIGEST, nullable=False),
        sa.Column("signed", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run", "stage", "round", "attempt"),
    )


def _site_consents() -> None:
    op.create_table(
        "site_consents",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("proposal", NAME, nullable=False),
        sa.Column("decision", NAME, nullable=False),
        sa.Column("source", NAME, nullable=False),
        sa.Column("by", NAME, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("code", NAME, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.Column("delivered", TIME),
        sa.Column("answer", NAME, nullable=False),
        sa.ForeignKeyConstraint(["proposal"], ["site_proposals.id"]),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_index(op.f("ix_site_consents_proposal"), "site_consents", ["proposal"])
