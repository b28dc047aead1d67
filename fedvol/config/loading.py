"""From a TOML file to a study, open or closed, with every problem told at once."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from fedvol.config.checks import problems, problems_of_sections
from fedvol.config.findings import read_model, schema_problems
from fedvol.config.open_study import OpenStudy
from fedvol.config.study import Study
from fedvol.errors import ConfigFileError, Problem, StudyError
from fedvol.types import Json

MAX_FILE_BYTES = 1_000_000
_POSITION = re.compile(r" ?\((?:at line (\d+), column (\d+)|at end of document)\)$")


def load_study(path: Path) -> Study:
    """Read and check a study file that leaves nothing to planning.

    Raises:
        ConfigFileError: The file is absent, no file, too large, not UTF-8 or not TOML.
        StudyError: The study breaks its schema, contradicts itself or leaves a value out; carries
            every problem.
    """
    return parse_study(read_text(path), where=str(path))


def load_open_study(path: Path) -> OpenStudy:
    """Read and check a study file, whatever it leaves to planning.

    Raises:
        ConfigFileError: The file is absent, no file, too large, not UTF-8 or not TOML.
        StudyError: The study breaks its schema or contradicts itself; carries every problem.
    """
    return parse_open_study(read_text(path), where=str(path))


def parse_study(text: str, *, where: str) -> Study:
    """Read and check a study given as TOML text that leaves nothing to planning.

    Args:
        text: The TOML document.
        where: How messages call it, normally the file's path.

    Raises:
        ConfigFileError: The text is not TOML.
        StudyError: The study breaks its schema, contradicts itself or leaves a value out; carries
            every problem.
    """
    opened = parse_open_study(text, where=where)
    if opened.open_keys:
        raise StudyError(
            where,
            [
                Problem(
                    where=key, what="this key is missing", fix="Add it; nothing is planned here."
                )
                for key in opened.open_keys
            ],
        )
    return close_study(opened, {}, where=where)


def parse_open_study(text: str, *, where: str) -> OpenStudy:
    """Read and check a study given as TOML text, whatever it leaves to planning.

    Args:
        text: The TOML document.
        where: How messages call it, normally the file's path.

    Raises:
        ConfigFileError: The text is not TOML.
        StudyError: The study breaks its schema or contradicts itself; carries every problem.
    """
    document = parse_toml(text, where=where)
    read = read_model(document, OpenStudy)
    if read.value is None:
        sound = _sound_sections(document, broken=read.broken)
        more = [p for p in problems_of_sections(sound) if not _is_at(p.where, read.spots)]
        raise StudyError(where, [*read.problems, *more])
    if found := [*read.problems, *problems(read.value)]:
        raise StudyError(where, found)
    return read.value


def close_study(study: OpenStudy, values: Mapping[str, Json], *, where: str) -> Study:
    """A study with the values that it left to planning.

    Args:
        study: The study as written.
        values: For each of its open keys, the value.
        where: How messages call it.

    Raises:
        StudyError: A value breaks the schema or contradicts another; carries every problem.
        ValueError: The values are not those of the open keys.
    """
    if set(values) != set(study.open_keys):
        raise ValueError(f"{sorted(values)} are not the open keys {sorted(study.open_keys)}")
    document: dict[str, Any] = json.loads(study.model_dump_json(exclude_unset=True))
    document.pop("planning", None)
    for key, value in values.items():
        section, _, name = key.partition(".")
        document.setdefault(section, {})[name] = value
    try:
        closed = Study.model_validate_json(json.dumps(document))
    except ValidationError as error:
        found = schema_problems(Study, error.errors(include_url=False))
        raise StudyError(where, found) from error
    if found := problems(closed):
        raise StudyError(where, found)
    return closed


def study_schema() -> dict[str, Json]:
    """JSON Schema of a study file, with the meaning of every key; editors complete from it."""
    schema = _without_null(OpenStudy.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _without_null(schema: Any) -> Any:
    """A schema without null, which TOML cannot say: an absent key is how a file says it."""
    if isinstance(schema, list):
        return [_without_null(item) for item in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _without_null(value) for key, value in cast(dict[str, Any], schema).items()}
    if "anyOf" in plain:
        members = [member for member in plain["anyOf"] if member != {"type": "null"}]
        if len(members) < len(plain["anyOf"]):
            if plain.get("default", 0) is None:
                del plain["default"]
            if len(members) == 1:
                del plain["anyOf"]
                return {**members[0], **plain}
            plain["anyOf"] = members
    return plain


def read_text(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        ConfigFileError: It is absent, no file, too large, or not UTF-8.
    """
    where = str(path)
    try:
        if path.is_dir():
            raise ConfigFileError(where, "this is a folder", "Name the study file inside it.")
        if not path.exists():
            raise ConfigFileError(where, "there is no such file", "Check the path.")
        if not path.is_file():
            raise ConfigFileError(where, "this is not an ordinary file", "Name a TOML file.")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise ConfigFileError(where, reason, "Check the path and its permissions.") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigFileError(
            where, "the file is larger than 1 MB", "Name a study file, not a data file."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise ConfigFileError(
            where,
            f"line {line}, column {column}: the text is not UTF-8",
            "Save the file as UTF-8.",
        ) from error


def parse_toml(text: str, *, where: str) -> dict[str, Any]:
    """The values of a TOML document.

    Raises:
        ConfigFileError: The text is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        position = _POSITION.search(message)
        line, column = _end_of(text)
        if position and position[1]:
            line, column = int(position[1]), int(position[2])
        reason = _POSITION.sub("", message)
        if "overwrite" in reason or "declare" in reason or "mutate" in reason:
            reason = "a key or table is given twice"
        raise ConfigFileError(
            where,
            f"line {line}, column {column}: {reason[:1].lower()}{reason[1:]}",
            "Mend the TOML there.",
        ) from error
    except (RecursionError, ValueError) as error:
        raise ConfigFileError(
            where, "a value is nested too deep or a number too long", "Simplify the file."
        ) from error


def _end_of(text: str) -> tuple[int, int]:
    lines = text.splitlines() or [""]
    return len(lines), len(lines[-1]) + 1


def _sound_sections(
    document: dict[str, Any], *, broken: Iterable[tuple[str | int, ...]]
) -> dict[str, Any]:
    """Top-level values that pass the schema, so that their cross-checks run all the same.

    A broken key is left out of its section; the section is left out where it cannot be without it.
    """
    document = json.loads(json.dumps(document, default=str))
    for location in broken:
        _drop(document, location)
    sound: dict[str, Any] = {}
    for name, field in OpenStudy.model_fields.items():
        if name in document:
            text = json.dumps(document[name])
            with suppress(ValidationError):  # told already
                sound[name] = TypeAdapter[Any](field.rebuild_annotation()).validate_json(text)
        elif not field.is_required():
            sound[name] = field.get_default(call_default_factory=False)
    return sound


def _drop(document: dict[str, Any], location: tuple[str | int, ...]) -> None:
    """Remove the innermost key that a location names; of a missing key there is nothing."""
    table, key, value = document, "", cast(Any, document)
    for part in location:
        if isinstance(value, dict) and part in value:
            table, key = cast(dict[str, Any], value), str(part)
            value = table[key]
        elif isinstance(value, list) and isinstance(part, int) and part < len(cast(Any, value)):
            value = cast(list[Any], value)[part]
        elif part == location[-1]:
            return  # missing; other parts that are no keys are the kinds of a choice
    table.pop(key, None)


def _is_at(where: str, spots: Iterable[str]) -> bool:
    """Whether a finding is at a key that is known to be broken, inside it, or around it."""
    return any(
        longer == shorter or longer.startswith((f"{shorter}.", f"{shorter}["))
        for spot in spots
        for longer, shorter in ((where, spot), (spot, where))
    )
