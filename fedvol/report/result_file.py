"""Writing and reading `result.json`."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from fedvol.config.base import Section
from fedvol.errors import ResultFileError
from fedvol.files import write_atomic
from fedvol.report.result import Result

_Document = TypeVar("_Document", bound=Section)
_FIX = "Run the study again, or read the file with the version that wrote it."


def write_result(path: Path, *, result: Result) -> None:
    """Write a result whole or not at all: sorted keys, indented, null and never NaN.

    Raises:
        DiskFullError: No space is left.
        StoreError: The folder cannot be written.
    """
    document = result.model_dump(mode="json", by_alias=True)
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())


def read_result(path: Path) -> Result:
    """Read a result strictly: unknown keys, other types, NaN or another schema are refused.

    Raises:
        ResultFileError: The file is absent, not JSON or not of this schema.
    """
    return read_document(path, Result)


def read_document(path: Path, model: type[_Document]) -> _Document:
    """Read figures as the model they were written from, strictly.

    Raises:
        ResultFileError: The file is absent, not JSON or not of this schema.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise ResultFileError(
            str(path), reason, "Name the output folder of a run that ended."
        ) from error
    except ValidationError as error:
        raise ResultFileError(str(path), _first_problem(error), _FIX) from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file"
    more = error.error_count() - 1
    tail = f" (and {more} more)" if more else ""
    return f"{where}: {first['msg'].rstrip('.')}{tail}"
