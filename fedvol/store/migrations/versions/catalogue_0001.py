"""The table of a site's cases."""

import sqlalchemy as sa
from alembic import op

revision = "catalogue_0001"
down_revision = None
branch_labels = ("catalogue",)


def upgrade() -> None:
    """Make them, in the order in which they name each other."""
    _catalogue_case()


def _catalogue_case() -> None:
    op.create_table(
        "catalogue_case",
        sa.Column("site", sa.String(), nullable=False),
        sa.Column("case", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("images", sa.JSON(), nullable=False),
        sa.Column("label", sa.String()),
        sa.Column("shape", sa.JSON(none_as_null=True)),
        sa.Column("spacing_mm", sa.JSON(none_as_null=True)),
        sa.Column("affine", sa.JSON(none_as_null=True)),
        sa.Column("checksum", sa.String(), nullable=False),
        sa.Column("label_checksum", sa.String(), nullable=False),
        sa.Column("content", sa.String(), nullable=False),
        sa.Column("voxels", sa.JSON(none_as_null=True)),
        sa.Column("intensities", sa.JSON(none_as_null=True)),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("site", "case"),
    )
    op.create_index(op.f("ix_catalogue_case_subject"), "catalogue_case", ["subject"])
