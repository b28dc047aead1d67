"""The references for people, `docs/study.md` and `docs/site.md`, written from the schemas."""

import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fedvol.config.open_study import OpenStudy, is_planned
from fedvol.config.places import is_model, kinds, plain_type
from fedvol.config.site import SiteConfig

_INTRODUCTION = """\
# The study file

A study is one TOML file. It says what to learn, from which cases, how, and how the result is
judged. It is the same at every site and is hashed into the plan.

- `fedvol study check STUDY.toml` tells every problem at once.
- `fedvol study schema` prints the JSON Schema, from which editors complete and check.
- A key that is not listed here is an error. A key with a default may be left out.
- A key marked "planned" may be left out too: its value then follows from the sites' data
  ([planning.md](planning.md)); `fedvol study plan` shows it with its reason.

This page is made by `fedvol study schema --markdown`.
"""


_SITE_INTRODUCTION = """\
# The site file

`site.toml` belongs to one hospital alone. It says who the hospital is, what data it has, and what
its policy allows; no study can widen it. `fedvol site init` writes it, `fedvol data add` adds
folders of volumes, and the rest is edited by hand.

- `fedvol site status` tells every problem of the file at once.
- `fedvol site policy check STUDY.toml` says what the policy makes of a study.
- A key that is not listed here is an error. A key with a default may be left out.
- A rule that is changed during a run holds at once: what was computed under the old one stays here.

This page is made by `fedvol site schema`.
"""


def site_reference() -> str:
    """The reference of every key of a site's file, as Markdown."""
    return "\n".join([_SITE_INTRODUCTION, *_section(SiteConfig, path="")])


def study_reference() -> str:
    """The reference of every key of a study file, as Markdown."""
    parts = [_INTRODUCTION, *_section(OpenStudy, path="")]
    return "\n".join(parts)


def _section(model: type[BaseModel], *, path: str, listed: bool = False) -> Iterator[str]:
    """One table of keys, then the tables inside it."""
    heading = "Top of the file"
    if path:
        heading = f"`[[{path}]]`" if listed else f"`[{path}]`"
    if kind := _kind(model):
        heading += f', kind `"{kind}"`'
    yield f"## {heading}\n"
    yield f"{_doc(model)}\n"
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    schema = model.model_json_schema()["properties"]
    fields = sorted(
        model.model_fields.items(),
        key=lambda item: (item[0] != "kind", not is_planned(item[1].metadata)),
    )
    for name, field in fields:
        yield _row(name, field=field, schema=schema[name])
    yield ""
    for name, field in fields:
        is_list = get_origin(plain_type(field.annotation)) is tuple
        below = f"{path}.{name}" if path else name
        for table in _tables(field.annotation):
            yield from _section(table, path=below, listed=is_list)


def _row(name: str, *, field: FieldInfo, schema: dict[str, Any]) -> str:
    meaning = " ".join((field.description or "").split())
    if name == "kind":
        meaning = meaning or "Chooses this section."
    default = "required" if field.is_required() else _default(field)
    default = "planned" if is_planned(field.metadata) else default
    value = _tables_in_words(field.annotation) or _values(schema)
    return f"| `{name}` | {value} | {default} | {meaning} |"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined:
        return "absent"
    if isinstance(value, BaseModel):
        return "as below"
    plain = list(value) if isinstance(value, tuple) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # any default
    return f"`{json.dumps(plain)}`"


def _tables(annotation: Any) -> list[type[BaseModel]]:
    """The sections a field may hold, one each or in a list."""
    annotation = plain_type(annotation)
    if get_origin(annotation) is tuple:
        annotation = plain_type(get_args(annotation)[0])
    if is_model(annotation):
        return [annotation]
    return list(kinds(annotation).values())


def _tables_in_words(annotation: Any) -> str:
    tables = _tables(annotation)
    if not tables:
        return ""
    noun = "list of tables" if get_origin(plain_type(annotation)) is tuple else "table"
    named = [f"`{kind}`" for table in tables if (kind := _kind(table))]
    return f"{noun}: {' or '.join(named)}" if named else noun


def _values(schema: dict[str, Any]) -> str:
    """What a key accepts, from its JSON Schema."""
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "anyOf" in schema:
        members = [member for member in schema["anyOf"] if member.get("type") != "null"]
        return ", or ".join(_values(member) for member in members)
    match schema.get("type"):
        case "integer":
            return f"whole number{_range(schema)}"
        case "number":
            return f"number{_range(schema)}"
        case "string":
            return _PATTERNS.get(schema.get("pattern", ""), f"text{_length(schema, 'characters')}")
        case "boolean":
            return "true or false"
        case "object":
            (values,) = schema["patternProperties"].values()
            return f"table of name = {_values(values)}"
        case "array" if "prefixItems" in schema:
            items = schema["prefixItems"]
            return f"list of {len(items)}: {_values(items[0])}"
        case "array":
            return f"list{_length(schema, 'items')}: {_values(schema['items'])}"
        case _:
            return "value"


_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$": "name",
    r"^([01][0-9]|2[0-3]):[0-5][0-9]$": "text `HH:MM`",
}
_BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
}


def _range(schema: dict[str, Any]) -> str:
    parts = [f"{word} {schema[name]}" for name, word in _BOUNDS.items() if name in schema]
    return f" {' '.join(parts)}" if parts else ""


def _length(schema: dict[str, Any], noun: str) -> str:
    least = schema.get("minItems", schema.get("minLength"))
    most = schema.get("maxItems", schema.get("maxLength"))
    if least is not None and most is not None:
        count = f"{least}" if least == most else f"{least} to {most}"
        return f" of {count} {noun}"
    if least is not None:
        return f" of {least} or more {noun}"
    return ""


def _kind(model: type[BaseModel]) -> str:
    field = model.model_fields.get("kind")
    return get_args(field.annotation)[0] if field else ""


def _doc(model: type[BaseModel]) -> str:
    paragraphs = (model.__doc__ or "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
