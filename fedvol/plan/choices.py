"""`Choice`: a planned value with its reason in words."""

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import Field, JsonValue

from fedvol.config.base import Section
from fedvol.types import Digest

AXES: Final = ("R-L", "A-P", "S-I")
"""Volumes are RAS: i runs from left to right, j to the front, k to the head."""


class Choice(Section):
    """One value that the study left open."""

    key: str
    """The key of the study, such as `patches.size`."""
    value: JsonValue
    """What was planned for it."""
    reason: Annotated[str, Field(min_length=1)]
    """Why, with the numbers behind it."""


class PlanningRecord(Section):
    """How the open values of a study came about."""

    fingerprint: Digest
    """Digest of the sites' merged fingerprint."""
    choices: tuple[Choice, ...]
    """Each planned value, in the order in which they were planned."""


def by_axis(values: Sequence[float], *, decimals: int = 3) -> str:
    """Three numbers as people write them: 1 x 1 x 5."""
    return " × ".join(plain_number(value, decimals=decimals) for value in values)


def plain_number(value: float, *, decimals: int = 3) -> str:
    """A number without zeros at its end."""
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
