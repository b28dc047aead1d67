"""From the schema library's error locations to the keys a person wrote."""

import re
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One spot of a configuration file.

    Attributes:
        keys: Keys and list positions from the root; the names of union members are left out.
        section: Model that owns the last key, where there is one.
        meaning: First line of the last key's doc; empty where it has none.
        in_choice: Whether the spot may hold one of several types, and this is one of them.
    """

    keys: tuple[str | int, ...]
    section: type[BaseModel] | None
    meaning: str
    in_choice: bool

    @property
    def path(self) -> str:
        """The spot in TOML notation, such as `stages[0].strategy.mu`."""
        return key_path(self.keys)


def key_path(keys: tuple[str | int, ...]) -> str:
    """Write keys and list positions in TOML notation."""
    path = ""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
            continue
        quoted = key if _BARE_KEY.fullmatch(key) else f'"{key}"'
        path += f".{quoted}" if path else quoted
    return path or "the file"


def locate(model: type[BaseModel], location: tuple[str | int, ...]) -> Place:
    """Find the spot that an error location names.

    Args:
        model: Model of the whole file.
        location: As the schema library gives it: keys, list positions, and names of union members.
    """
    keys: list[str | int] = []
    current: Any = model
    section: type[BaseModel] | None = None
    meaning = ""
    in_choice = False
    for part in location:
        current = plain_type(current)
        if is_model(current) and isinstance(part, str):
            field = current.model_fields.get(part)
            keys.append(part)
            section = current
            meaning = (field.description or "").split("\n")[0] if field else ""
            current = field.annotation if field else None
            in_choice = False
        elif get_origin(current) in (Union, UnionType):
            current = _member(current, str(part))
            in_choice = not is_model(current)
        elif get_origin(current) is tuple and isinstance(part, int):
            items = get_args(current)
            keys.append(part)
            current = items[0] if items[-1] is Ellipsis else items[min(part, len(items) - 1)]
        elif get_origin(current) is dict:
            keys.append(part)
            current = get_args(current)[1]
            in_choice = False
    return Place(keys=tuple(keys), section=section, meaning=meaning, in_choice=in_choice)


def plain_type(annotation: Any) -> Any:
    """Strip what surrounds a type: its constraints, and `None` as the other choice."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        if get_origin(annotation) in (Union, UnionType):
            members = tuple(m for m in get_args(annotation) if m is not NoneType)
            if len(members) == 1:
                annotation = members[0]
                continue
        return annotation


def is_model(annotation: Any) -> bool:
    """Whether a type is a section of the schema."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def kinds(annotation: Any) -> dict[str, type[BaseModel]]:
    """The sections a `kind` chooses among, by that kind; empty for any other type."""
    found: dict[str, type[BaseModel]] = {}
    for member in _members(annotation):
        field = member.model_fields.get("kind") if is_model(member) else None
        if field and get_origin(field.annotation) is Literal:
            found[get_args(field.annotation)[0]] = member
    return found


def _members(annotation: Any) -> tuple[Any, ...]:
    annotation = plain_type(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return tuple(plain_type(member) for member in get_args(annotation))
    return (annotation,)


def _member(union: Any, name: str) -> Any:
    if by_kind := kinds(union):
        return by_kind.get(name)
    is_table = name.startswith("dict")
    for member in _members(union):
        if (get_origin(member) is dict) == is_table:
            return member
    return None
