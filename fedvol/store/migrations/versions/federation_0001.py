"""The tables of a federation: people, sites, agreements."""

import sqlalchemy as sa
from alembic import op

revision = "federation_0001"
down_revision = None
branch_labels = ("federation",)

NAME = sa.String(200)
DIGEST = sa.String(64)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make them, in the order in which they name each other."""
    _answers()
    _invitations()
    _operator_actions()
    _proposals()
    _receipts()
    _rosters()
    _sites()
    _users()
    _consents()
    _run_requests()


def _answers() -> None:
    op.create_table(
        "answers",
        sa.Column("run", NAME, nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("site", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("tensors", DIGEST),
        sa.PrimaryKeyConstraint("run", "stage", "round", "site"),
    )


def _invitations() -> None:
    op.create_table(
        "invitations",
        sa.Column("token_digest", DIGEST, nullable=False),
        sa.Column("site", NAME, nullable=False),
        sa.Column("expires", TIME, nullable=False),
        sa.Column("used", TIME),
        sa.Column("created", TIME, nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.PrimaryKeyConstraint("token_digest"),
    )
    op.create_index(op.f("ix_invitations_site"), "invitations", ["site"])


def _operator_actions() -> None:
    op.create_table(
        "operator_actions",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("user", NAME, nullable=False),
        sa.Column("action", NAME, nullable=False),
        sa.Column("subject", NAME, nullable=False),
        sa.Column("outcome", NAME, nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )


def _proposals() -> None:
    op.create_table(
        "proposals",
        sa.Column("id", NAME, nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("run", NAME, nullable=False),
        sa.Column("plan_digest", DIGEST, nullable=False),
        sa.Column("sites", sa.JSON(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_proposals_run"), "proposals", ["run"])


def _receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("run", NAME, nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("site", NAME, nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run", "stage", "round", "site"),
    )


def _rosters() -> None:
    op.create_table(
        "rosters",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("accepted", TIME, nullable=False),
        sa.Column("accepted_by", NAME, nullable=False),
        sa.PrimaryKeyConstraint("version"),
    )


def _sites() -> None:
    op.create_table(
        "sites",
        sa.Column("name", NAME, nullable=False),
        sa.Column("status", NAME, nullable=False),
        sa.Column("wanted", NAME, nullable=False),
        sa.Column("identity", NAME, nullable=False),
        sa.Column("node", NAME, nullable=False),
        sa.Column("next_identity", NAME, nullable=False),
        sa.Column("next_node", NAME, nullable=False),
        sa.Column("software", NAME, nullable=False),
        sa.Column("enrolled", TIME),
        sa.PrimaryKeyConstraint("name"),
    )


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("name", NAME, nullable=False),
        sa.Column("role", NAME, nullable=False),
        sa.Column("token_digest", DIGEST, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("removed", TIME),
        sa.PrimaryKeyConstraint("name"),
        sa.UniqueConstraint("token_digest"),
    )


def _consents() -> None:
    op.create_table(
        "consents",
        sa.Column("number", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("proposal", NAME, nullable=False),
        sa.Column("site", NAME, nullable=False),
        sa.Column("decision", NAME, nullable=False),
        sa.Column("reason", NAME, nullable=False),
        sa.Column("signed", sa.LargeBinary(), nullable=False),
        sa.Column("said", TIME, nullable=False),
        sa.Column("recorded", TIME, nullable=False),
        sa.ForeignKeyConstraint(["proposal"], ["proposals.id"]),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(op.f("ix_consents_proposal"), "consents", ["proposal"])
    op.create_index(op.f("ix_consents_site"), "consents", ["site"])


def _run_requests() -> None:
    op.create_table(
        "run_requests",
        sa.Column("run", NAME, nullable=False),
        sa.Column("wanted", NAME, nullable=False),
        sa.Column("by", NAME, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("queued", TIME, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["proposals.id"]),
        sa.PrimaryKeyConstraint("run"),
    )
