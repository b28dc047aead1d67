"""A moment has one spelling."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import TypeAdapter, ValidationError

from fedvol.identity import Moment, write_moment

MOMENT = TypeAdapter[datetime](Moment)


def test_is_written_in_utc_to_the_second() -> None:
    local = datetime(2026, 6, 1, 1, 2, 3, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert write_moment(local) == "2026-05-31T23:02:03Z"
    assert MOMENT.validate_python(local) == datetime(2026, 5, 31, 23, 2, 3, tzinfo=UTC)


def test_is_read_as_written() -> None:
    moment = MOMENT.validate_json('"2026-05-31T23:02:03Z"')
    assert moment == datetime(2026, 5, 31, 23, 2, 3, tzinfo=UTC)
    assert MOMENT.dump_json(moment) == b'"2026-05-31T23:02:03Z"'


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-31T23:02:03+00:00", "2026-05-31T23:02:03.0Z", "2026-05-31T23:02:03z",
        "2026-05-31 23:02:03Z", "2026-05-31T23:02:03", "2026-02-30T00:00:00Z", "2026-05-31",
        "2026-05-31T24:00:00Z", "٢٠٢٦-05-31T23:02:03Z", " 2026-05-31T23:02:03Z",
    ],
)  # fmt: skip
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        MOMENT.validate_python(text)


@pytest.mark.parametrize("value", [0, 1_780_000_000, None, True])
def test_a_number_is_no_moment(value: object) -> None:
    with pytest.raises(ValidationError):
        MOMENT.validate_python(value)


def test_a_time_without_its_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without its zone"):
        write_moment(datetime(2026, 5, 31))  # noqa: DTZ001
