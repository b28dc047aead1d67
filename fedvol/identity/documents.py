"""Documents that are signed: read only in their one canonical spelling (RFC 8785).

Whoever reads a document and whoever signed it then mean the same bytes: no second spelling, no key
twice, no field that one side overlooks.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar, cast

from pydantic import BaseModel, ValidationError

from fedvol.plan import canonical_json
from fedvol.types import Json

Document = TypeVar("Document", bound=BaseModel)


def write_document(document: BaseModel) -> bytes:
    """A document's canonical bytes.

    Raises:
        ValueError: A value in it has no canonical spelling, such as a number beyond 2^53.
    """
    return canonical_json(cast("Json", document.model_dump(mode="json")))


def read_document(model: type[Document], data: bytes, *, limit_bytes: int) -> Document:
    """Read a document that somebody else wrote.

    Args:
        model: What it should be.
        data: Its bytes.
        limit_bytes: Size beyond which it is not even parsed.

    Raises:
        ValueError: It is larger, malformed, or not spelled canonically. The message says which of
            our fields is wrong and repeats nothing of the document.
    """
    document = read_draft(model, data, limit_bytes=limit_bytes)
    if write_document(document) != data:
        raise ValueError("it is not in its canonical form (RFC 8785)")
    return document


def read_draft(model: type[Document], data: bytes, *, limit_bytes: int) -> Document:
    """Read a document that may be spelled freely, because nobody signed it.

    Raises:
        ValueError: It is larger or malformed.
    """
    if len(data) > limit_bytes:
        raise ValueError(f"it is larger than {limit_bytes} bytes")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ValueError(_told(first["type"], first["loc"])) from None


def read_file(path: Path, *, limit_bytes: int) -> bytes:
    """The content of a document's file.

    Raises:
        ValueError: It cannot be read, or is larger.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from error
    if len(data) > limit_bytes:
        raise ValueError(f"it is larger than {limit_bytes} bytes")
    return data


def _told(kind: str, location: Iterable[int | str]) -> str:
    path = [str(part) for part in location]
    if kind == "extra_forbidden":
        return f"{'.'.join(path[:-1]) or 'it'} has a field that is unknown here"
    if not path:
        return f"it is not such a document ({kind})"
    return f"its field {'.'.join(path)} is wrong ({kind})"
