"""`Moment`: a second in UTC, with one spelling: `2026-01-31T12:00:00Z`."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator

CLOCK_SLACK = timedelta(hours=1)
"""How far another's clock may be behind when a certificate or a roster is new."""

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


def write_moment(moment: datetime) -> str:
    """The one spelling of a moment; parts of a second are dropped.

    Raises:
        ValueError: It has no time zone.
    """
    return _whole(moment).strftime(_FORMAT)


def _whole(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment.astimezone(UTC).replace(microsecond=0)


def _parse(value: object) -> datetime:
    if isinstance(value, datetime):
        return _whole(value)
    if isinstance(value, str) and re.fullmatch(
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", value
    ):
        return datetime.strptime(value, _FORMAT).replace(tzinfo=UTC)
    raise ValueError("not a second in UTC, such as 2026-01-31T12:00:00Z")


Moment = Annotated[datetime, PlainValidator(_parse), PlainSerializer(write_moment, return_type=str)]
"""A second in UTC as a field of a document."""
