"""Whatever a study file holds, loading it gives a study or one error that names every problem."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.config import OpenStudy, Study, load_open_study
from fedvol.config.checks import problems
from fedvol.config.loading import parse_open_study, parse_study
from fedvol.errors import StudyError

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.toml"))
GOOD: dict[str, Any] = tomllib.loads(
    (Path(__file__).parents[3] / "examples" / "hippocampus.toml").read_text()
)


def _toml(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case float():
            return repr(value)
        case _:
            return json.dumps(value)


def _document(value: dict[str, Any]) -> str:
    return "\n".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())


def _spots(value: Any, keys: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[str | int, ...]] = []
    for key, item in items:
        found.append((*keys, key))
        if isinstance(item, dict | list):
            found += _spots(item, (*keys, key))
    return found


def _replaced(value: Any, keys: tuple[str | int, ...], new: Any) -> Any:
    if not keys:
        return new
    copy = value.copy()
    copy[keys[0]] = _replaced(value[keys[0]], keys[1:], new)
    return copy


_KEYS = st.sampled_from(["kind", "size", "mu", "liver", "a b", ""])
_VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=8),
        st.sampled_from(["unet", "resenc_unet", "fedbn", "hash", "window", "sgd", "none"]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_examples_load(path: Path) -> None:
    assert load_open_study(path).name == path.stem.replace("_", "-")


def test_helper_writes_the_same_study() -> None:
    assert parse_study(_document(GOOD), where="x") == Study.model_validate_json(json.dumps(GOOD))


@settings(max_examples=300, deadline=None)
@given(spot=st.sampled_from(_spots(GOOD)), value=_VALUES)
def test_any_value_anywhere(spot: tuple[str | int, ...], value: Any) -> None:
    text = _document(_replaced(GOOD, spot, value))
    try:
        study = parse_study(text, where="x")
    except StudyError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.where
            assert problem.fix.endswith((".", "?"))
            assert "Input should" not in problem.what
    else:
        assert not problems(study)


@settings(max_examples=30, deadline=None)
@given(names=st.lists(st.sampled_from(sorted(GOOD)), min_size=1, unique=True))
def test_missing_sections_are_all_named(names: list[str]) -> None:
    optional = {name for name, field in OpenStudy.model_fields.items() if not field.is_required()}
    expected = {name for name in names if name not in optional}
    rest = {name: value for name, value in GOOD.items() if name not in names}
    if not expected:
        parse_open_study(_document(rest), where="x")
        return
    with pytest.raises(StudyError) as caught:
        parse_open_study(_document(rest), where="x")
    assert {problem.where for problem in caught.value.problems} == expected


def test_a_study_survives_its_own_json() -> None:
    study = parse_study(_document(GOOD), where="x")
    assert Study.model_validate_json(study.model_dump_json()) == study
