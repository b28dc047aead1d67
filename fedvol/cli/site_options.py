"""Options that every command of a hospital has."""

# pyright: reportUnknownMemberType=false
# (typer declares its options with a type that lacks its argument)

from pathlib import Path
from typing import Annotated

import typer

SiteFolderOption = Annotated[
    Path, typer.Option("--folder", help="The site's folder; by default where you are.")
]
"""Where a site lies."""

HERE = Path()
"""The folder where the command is called."""

ByOption = Annotated[
    str, typer.Option("--by", help="Who decides; by default the user of this machine.")
]
"""Whose decision it is."""

ReasonOption = Annotated[str, typer.Option(help="Why; it stays at the site, in the audit log.")]
"""In whose words."""
