"""The tables of runs."""

import sqlalchemy as sa
from alembic import op

revision = "runs_0001"
down_revision = None
branch_labels = ("runs",)

NAME = sa.String(200)
DIGEST = sa.String(64)
TIME = sa.DateTime(timezone=True)
NUMBER: sa.types.TypeEngine[float] = sa.Double()


def upgrade() -> None:
    """Make them, in the order in which they name each other."""
    _runs()
    _checkpoints()
    _evaluations()
    _rounds()
    _round_metrics()
    _site_rounds()


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", NAME, nullable=False),
        sa.Column("study", NAME, nullable=False),
        sa.Column("plan_digest", DIGEST, nullable=False),
        sa.Column("plan_json", sa.Text(), nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("run", NAME, nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("kind", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run", "stage", "round", "kind", "name"),
    )


def _evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("run", NAME, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("site", NAME, nullable=False),
        sa.Column("keys_json", sa.Text(), nullable=False),
        sa.Column("arrays", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run", "model", "site"),
    )


def _rounds() -> None:
    op.create_table(
        "rounds",
        sa.Column("run", NAME, nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("base", DIGEST, nullable=False),
        sa.Column("aggregate", DIGEST),
        sa.Column("arguments_json", sa.Text(), nullable=False),
        sa.Column("known_weight", NUMBER),
        sa.Column("started", TIME, nullable=False),
        sa.Column("ended", TIME),
        sa.Column("seconds", NUMBER, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run", "stage", "round", "attempt"),
    )


def _round_metrics() -> None:
    op.create_table(
        "round_metrics",
        sa.Column("run", NAME, nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("site", NAME, nullable=False),
        sa.Column("metric", NAME, nullable=False),
        sa.Column("value", NUMBER),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("low", NUMBER),
        sa.Column("high", NUMBER),
        sa.Column("undefined", sa.Integer(), nullable=False),
        sa.Column("penalised", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run", "stage", "round", "attempt"],
            ["rounds.run", "rounds.stage", "rounds.round", "rounds.attempt"],
        ),
        sa.PrimaryKeyConstraint("run", "stage", "round", "attempt", "site", "metric"),
    )


def _site_rounds() -> None:
    op.create_table(
        "site_rounds",
        sa.Column("run", NAME, nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("site", NAME, nullable=False),
        sa.Column("state", NAME, nullable=False),
        sa.Column("code", NAME, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("cases", sa.Integer()),
        sa.Column("steps", sa.Integer()),
        sa.Column("train_seconds", NUMBER),
        sa.Column("loss", NUMBER),
        sa.Column("bytes_up", sa.BigInteger()),
        sa.Column("bytes_down", sa.BigInteger()),
        sa.Column("weight", NUMBER),
        sa.Column("blob", DIGEST),
        sa.Column("asked", TIME),
        sa.Column("answered", TIME),
        sa.ForeignKeyConstraint(
            ["run", "stage", "round", "attempt"],
            ["rounds.run", "rounds.stage", "rounds.round", "rounds.attempt"],
        ),
        sa.PrimaryKeyConstraint("run", "stage", "round", "attempt", "site"),
    )
