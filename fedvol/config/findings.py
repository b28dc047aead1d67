"""The schema library's errors, told in the words of the person who wrote the file."""

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fedvol.config.places import Place, key_path, kinds, locate
from fedvol.errors import Problem

_Model = TypeVar("_Model", bound=BaseModel)

_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text in quotes",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_BOUNDS = {
    "greater_than": ("gt", "not above", "above"),
    "greater_than_equal": ("ge", "below", "at least"),
    "less_than": ("lt", "not below", "below"),
    "less_than_equal": ("le", "above", "at most"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(Generic[_Model]):
    """What a document is, read as a model.

    Attributes:
        value: The model; None if the document breaks its schema.
        problems: Every problem found, one for each spot.
        broken: Locations that break the schema, as the schema library has them.
    """

    value: _Model | None
    problems: tuple[Problem, ...]
    broken: tuple[tuple[str | int, ...], ...]

    @property
    def spots(self) -> frozenset[str]:
        """Where the problems are."""
        return frozenset(problem.where for problem in self.problems)


def read_model(document: dict[str, Any], model: type[_Model]) -> Read[_Model]:
    """Read a TOML document as a model.

    Args:
        document: Its values.
        model: Model of the whole file.
    """
    found = list(dates(document))
    try:
        # Strict sections want JSON: then a TOML list is a tuple, and a TOML integer fits a float.
        value = model.model_validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        errors = error.errors(include_url=False)
        spots = {problem.where for problem in found}
        found += [one for one in schema_problems(model, errors) if one.where not in spots]
        broken = tuple(detail["loc"] for detail in errors)
        return Read(value=None, problems=tuple(found), broken=broken)
    return Read(value=value, problems=tuple(found), broken=())


def schema_problems(model: type[BaseModel], errors: Iterable[ErrorDetails]) -> list[Problem]:
    """Tell schema errors as problems, one for each spot.

    Args:
        model: Model of the whole file.
        errors: What its validation found.
    """
    found = [(locate(model, error["loc"]), error) for error in errors]
    found = [pair for pair in found if not _follows_from_others(pair, found)]
    problems: list[Problem] = []
    choices: dict[tuple[str | int, ...], list[str]] = {}
    for place, error in found:
        wanted = _WANTED.get(error["type"])
        if place.in_choice and wanted:
            choices.setdefault(place.keys, []).append(wanted)
            if len(choices[place.keys]) == 1:
                problems.append(_type_problem(place, wanted, error["input"]))
            else:
                index = next(i for i, p in enumerate(problems) if p.where == place.path)
                both = " or ".join(choices[place.keys])
                problems[index] = _type_problem(place, both, error["input"])
        else:
            problems.append(_problem(model, place, error))
    return problems


def suggestion(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known name, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known here: {', '.join(names)}." if names else "Remove it."


def _follows_from_others(
    pair: tuple[Place, ErrorDetails], found: list[tuple[Place, ErrorDetails]]
) -> bool:
    """Whether an error only says that another one exists."""
    place, error = pair
    if error["type"] == "too_short":
        return len(error["input"]) >= error.get("ctx", {}).get("min_length", 0)
    if place.in_choice and error["type"] in _WANTED:
        depth = len(place.keys)
        return any(
            other.keys[:depth] == place.keys
            and (len(other.keys) > depth or detail["type"] not in _WANTED)
            for other, detail in found
        )
    return False


def _problem(model: type[BaseModel], place: Place, error: ErrorDetails) -> Problem:
    kind = error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    value: Any = error["input"]
    if kind in _WANTED:
        return _type_problem(place, _WANTED[kind], value)
    if kind in _BOUNDS:
        name, side, allowed = _BOUNDS[kind]
        bound = f"{context[name]:g}" if isinstance(context[name], float) else f"{context[name]}"
        return Problem(
            where=place.path,
            what=f"{show(value)} is {side} {bound}",
            fix=_with_meaning(f"Use a value {allowed} {bound}.", place),
        )
    match kind:
        case "missing" if place.keys and isinstance(place.keys[-1], int):
            return _length_problem(place, value)
        case "too_short" | "too_long":
            return _length_problem(place, value, context)
        case "missing":
            return Problem(
                where=place.path, what="this key is missing", fix=_with_meaning("Add it.", place)
            )
        case "extra_forbidden":
            known = list(place.section.model_fields) if place.section else []
            return Problem(
                where=place.path,
                what="unknown key",
                fix=suggestion(str(place.keys[-1]), known),
            )
        case "union_tag_not_found" | "union_tag_invalid":
            return _kind_problem(model, place, error)
        case "literal_error":
            return _literal_problem(place, value, str(context["expected"]))
        case "string_pattern_mismatch":
            return Problem(
                where=place.path,
                what=f"{show(value)} is no name we accept",
                fix="Use 1 to 64 letters, digits, dots, dashes or underscores, "
                "beginning with a letter or digit.",
            )
        case "string_too_short":
            return Problem(
                where=place.path,
                what=f"{show(value)} is shorter than {context['min_length']} characters",
                fix=_with_meaning("Write more.", place),
            )
        case "string_too_long":
            return Problem(
                where=place.path,
                what=f"the text is longer than {context['max_length']} characters",
                fix=_with_meaning("Write less.", place),
            )
        case _:
            return Problem(
                where=place.path,
                what=f"{show(value)} is not accepted ({error['msg'].lower()})",
                fix=_with_meaning("Change it.", place),
            )


def _type_problem(place: Place, wanted: str, value: Any) -> Problem:
    return Problem(
        where=place.path,
        what=f"expected {wanted}, found {show(value)}",
        fix=_with_meaning(f"Write {wanted}.", place),
    )


def _length_problem(place: Place, value: Any, context: Mapping[str, Any] | None = None) -> Problem:
    if context is None:  # a list of fixed length lacks its last items, each reported apart
        keys = place.keys[:-1]
        needed = f"{cast(int, place.keys[-1]) + 1} values"
    else:
        keys = place.keys
        least, most = context.get("min_length"), context.get("max_length")
        needed = f"at least {least}" if least is not None else f"at most {most}"
        needed += " value" if 1 in (least, most) else " values"
    return Problem(
        where=key_path(keys),
        what=f"needs {needed}, found {len(value)}",
        fix=_with_meaning("Give as many as it needs.", place),
    )


def _kind_problem(model: type[BaseModel], place: Place, error: ErrorDetails) -> Problem:
    choice = _annotation(model, place)
    known = list(kinds(choice))
    where = key_path((*place.keys, "kind"))
    table: Mapping[str, Any] = error["input"]
    if error["type"] == "union_tag_not_found" and "kind" not in table:
        return Problem(
            where=where, what="this key is missing", fix=f"Choose one of: {', '.join(known)}."
        )
    name = table["kind"]
    hint = f" {suggestion(name, known)}" if isinstance(name, str) else ""
    hint = hint if "Did you mean" in hint else ""
    return Problem(
        where=where,
        what=f"unknown kind {show(name)}",
        fix=f"Choose one of: {', '.join(known)}.{hint}",
    )


def _annotation(model: type[BaseModel], place: Place) -> Any:
    owner = place.section or model
    names = [key for key in place.keys if isinstance(key, str)]
    return owner.model_fields[names[-1]].annotation


def _literal_problem(place: Place, value: Any, expected: str) -> Problem:
    known = expected.replace("'", "").replace(" or ", ", ")
    hint = suggestion(value, known.split(", ")) if isinstance(value, str) else ""
    hint = f" {hint}" if "Did you mean" in hint else ""
    choice = f"Choose one of: {known}.{hint}" if ", " in known else f"Write {known}."
    return Problem(where=place.path, what=f"{show(value)} is not a choice here", fix=choice)


def _with_meaning(advice: str, place: Place) -> str:
    return f"{advice} It is: {place.meaning}" if place.meaning else advice


def show(value: Any) -> str:
    """A value as a person may have written it, cut where long."""
    match value:
        case dict():
            return "a table"
        case list():
            return "a list"
        case None:
            return "nothing"
        case float() if not math.isfinite(value):
            return f"{value}"
        case _:
            text = json.dumps(value, ensure_ascii=False)
            return text if len(text) <= 60 else f"{text[:56]}..."


def dates(value: Any, *, keys: tuple[str | int, ...] = ()) -> Iterator[Problem]:
    """TOML's dates and times, which no key takes."""
    match value:
        case dict():
            for key, item in cast(dict[str, Any], value).items():
                yield from dates(item, keys=(*keys, key))
        case list():
            for index, item in enumerate(cast(list[Any], value)):
                yield from dates(item, keys=(*keys, index))
        case None | bool() | int() | float() | str():
            return
        case _:
            yield Problem(
                where=key_path(keys),
                what=f"expected another value, found the date or time {value}",
                fix="Put it in quotes if it is meant as text.",
            )
