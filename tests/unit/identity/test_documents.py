"""A signed document has one spelling, and errors repeat nothing of it."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from fedvol.config.base import Section
from fedvol.identity.documents import read_document, read_draft, read_file, write_document


class Inner(Section):
    number: Annotated[int, Field(ge=1)]


class Paper(Section):
    name: str
    parts: tuple[Inner, ...] = ()


GOOD = b'{"name":"x","parts":[{"number":1},{"number":20}]}'


def test_is_read_as_written() -> None:
    paper = read_document(Paper, GOOD, limit_bytes=len(GOOD))
    assert paper == Paper(name="x", parts=(Inner(number=1), Inner(number=20)))
    assert write_document(paper) == GOOD


OTHER_SPELLINGS = [
    GOOD + b"\n",
    b" " + GOOD,
    GOOD.replace(b":", b": "),
    GOOD.replace(b'"x"', rb'"\u0078"'),
    b'{"parts":[{"number":1},{"number":20}],"name":"x"}',
    b'{"name":"y",' + GOOD[1:],
    b'{"name":"x"}',
]


@pytest.mark.parametrize("data", OTHER_SPELLINGS)
def test_another_spelling_is_refused_unless_it_is_a_draft(data: bytes) -> None:
    with pytest.raises(ValueError, match="canonical"):
        read_document(Paper, data, limit_bytes=100)
    assert read_draft(Paper, data, limit_bytes=100).name == "x"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"name":"x","Mustermann":1}', "it has a field that is unknown here"),
        (
            b'{"name":"x","parts":[{"Mustermann":1,"number":1}]}',
            "parts.0 has a field that is unknown here",
        ),
        (b'{"name":"x","parts":[{"number":"Mustermann"}]}', "its field parts.0.number is wrong"),
        (b'{"name":"x","parts":[{"number":0}]}', "its field parts.0.number is wrong"),
        (b'{"name":"x","parts":[{"number":true}]}', "its field parts.0.number is wrong"),
        (b'{"parts":[]}', "its field name is wrong"),
        (b'{"name":"Mustermann"', "it is not such a document"),
        (b'"Mustermann"', "it is not such a document"),
        (b'\xff"Mustermann"', "it is not such a document"),
        (b"", "it is not such a document"),
    ],
)
@pytest.mark.parametrize("read", [read_document, read_draft])
def test_errors_name_our_field_and_nothing_of_theirs(read, data: bytes, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(Paper, data, limit_bytes=100)
    assert str(caught.value).startswith(told)
    assert "Mustermann" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_is_too_large_is_not_parsed() -> None:
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        read_document(Paper, b"x" * 11, limit_bytes=10)


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(GOOD)
    assert read_file(path, limit_bytes=len(GOOD)) == GOOD
    with pytest.raises(ValueError, match="larger"):
        read_file(path, limit_bytes=len(GOOD) - 1)
    with pytest.raises(ValueError, match="cannot be read"):
        read_file(tmp_path / "absent", limit_bytes=1)
