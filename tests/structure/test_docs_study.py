"""The study's schema, its reference and the ready studies agree."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fedvol.config import Study, study_schema
from fedvol.config.base import Section
from fedvol.config.reference import study_reference

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
_ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "discriminator"}


def _sections(model: type[Section] = Section) -> list[type[Section]]:
    found: list[type[Section]] = []
    for child in model.__subclasses__():
        if child.__module__.startswith("fedvol.config."):
            found += [child, *_sections(child)]
    return found


def _errors(value: Any, schema: dict[str, Any], defs: dict[str, Any], where: str) -> list[str]:
    """A JSON Schema validator for the keywords our schema uses; an unknown keyword fails."""
    found: list[str] = []
    if "type" in schema and not _is(value, schema["type"]):
        return [f"{where}: type"]
    for keyword, wanted in schema.items():
        if keyword in _ANNOTATIONS:
            continue
        match keyword:
            case "$ref":
                found += _errors(value, defs[wanted.removeprefix("#/$defs/")], defs, where)
            case "anyOf" | "oneOf":
                fits = [not _errors(value, member, defs, where) for member in wanted]
                if (sum(fits) != 1) if keyword == "oneOf" else not any(fits):
                    found.append(f"{where}: {keyword}")
            case "const" if value != wanted:
                found.append(f"{where}: const")
            case "enum" if value not in wanted:
                found.append(f"{where}: enum")
            case "properties":
                for name, inner in wanted.items():
                    if name in value:
                        found += _errors(value[name], inner, defs, f"{where}.{name}")
            case "required":
                found += [f"{where}.{name}: required" for name in wanted if name not in value]
            case "additionalProperties":
                patterns = schema.get("patternProperties", {})
                for name in value.keys() - schema.get("properties", {}).keys():
                    if not any(re.search(pattern, name) for pattern in patterns):
                        found += [f"{where}.{name}: unknown"] if wanted is False else []
            case "patternProperties":
                for pattern, inner in wanted.items():
                    for name in filter(re.compile(pattern).search, value):
                        found += _errors(value[name], inner, defs, f"{where}.{name}")
            case "prefixItems":
                for index, (item, inner) in enumerate(zip(value, wanted, strict=False)):
                    found += _errors(item, inner, defs, f"{where}[{index}]")
            case "items":
                for index, item in enumerate(value):
                    found += _errors(item, wanted, defs, f"{where}[{index}]")
            case "pattern" if not re.search(wanted, value):
                found.append(f"{where}: pattern")
            case "minItems" | "minLength" | "minProperties" if len(value) < wanted:
                found.append(f"{where}: {keyword}")
            case "maxItems" | "maxLength" if len(value) > wanted:
                found.append(f"{where}: {keyword}")
            case "minimum" if value < wanted:
                found.append(f"{where}: {keyword}")
            case "maximum" if value > wanted:
                found.append(f"{where}: {keyword}")
            case "exclusiveMinimum" if value <= wanted:
                found.append(f"{where}: {keyword}")
            case "exclusiveMaximum" if value >= wanted:
                found.append(f"{where}: {keyword}")
            case _:
                assert keyword in _KNOWN, keyword
    return found


_KNOWN = {
    "const", "enum", "type", "pattern", "minItems", "minLength", "minProperties", "maxItems",
    "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
}  # fmt: skip


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            types = {"string": str, "boolean": bool, "object": dict, "array": list}
            return value is None if kind == "null" else isinstance(value, types[kind])


def _schema_errors(document: dict[str, Any]) -> list[str]:
    schema: dict[str, Any] = study_schema()
    return _errors(document, schema, schema["$defs"], "study")


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_examples_fit_the_schema(path: Path) -> None:
    assert _schema_errors(tomllib.loads(path.read_text())) == []


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (r"rounds = \d+", "rounds = 0", "study.stages[0]: oneOf"),
        ("batch_size = [0-9]+", "batch_size = 0", "study.patches.batch_size: minimum"),
        ("batch_size = ", "batchsize = ", "study.patches.batchsize: unknown"),
        ('kind = "unet"', 'kind = "nonet"', "oneOf"),
        ("seed = 0", "", ""),
        ("version = 1", "", "study.version: required"),
        (r"size = \[\d+, \d+, \d+\]", "size = [32, 32]", "study.patches.size: minItems"),
    ],
)
def test_the_schema_refuses(old: str, new: str, error: str) -> None:
    text = (ROOT / "examples" / "demo.toml").read_text()
    changed, count = re.subn(old, new, text, count=1)
    assert count == 1
    found = _schema_errors(tomllib.loads(changed))
    assert error in " ".join(found) if error else not found


def test_reference_is_up_to_date() -> None:
    written = (ROOT / "docs" / "study.md").read_text()
    assert written == study_reference(), "run: fedvol study schema --markdown > docs/study.md"


def test_reference_names_every_key() -> None:
    reference = study_reference()
    for section in _sections():
        if section.__module__ in (
            "fedvol.config.site",
            "fedvol.config.server",
            "fedvol.config.name_map",
            "fedvol.config.sweep",
        ) or section.__name__.startswith("_"):
            continue
        for name in section.model_fields:
            assert f"| `{name}` |" in reference, f"{section.__name__}.{name}"


def test_every_key_has_a_doc() -> None:
    bare = [
        f"{section.__name__}.{name}"
        for section in [Study, *_sections()]
        for name, field in section.model_fields.items()
        if name != "kind" and not field.description
    ]
    assert not bare


def test_demo_is_the_packaged_one() -> None:
    packaged = ROOT / "fedvol" / "cli" / "demo.toml"
    example = ROOT / "examples" / "demo.toml"
    assert example.is_symlink(), f"make {example} a link to {packaged}"
    assert example.resolve() == packaged.resolve()


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_examples_name_their_command(path: Path) -> None:
    assert f"#   fedvol simulate examples/{path.name} --data" in path.read_text()
