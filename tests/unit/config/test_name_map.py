"""Names of foreign tensors: patterns, both ways, and what no pattern fits."""

from pathlib import Path

import pytest

from fedvol.config.name_map import NameMap, load_name_map, own_name, to_own_names, to_their_names
from fedvol.errors import ConfigFileError, NameMapError

MAP = """
version = 1
prefix = "network."

[names]
"enc.stages.{level}.blocks.{block}.conv1.conv.{leaf}" = "encoder.{level}.{block}.first.conv.{leaf}"
"enc.stem.{leaf}" = "stem.conv.{leaf}"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "names.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_name_is_mapped_or_listed(tmp_path: Path) -> None:
    theirs = [
        "network.enc.stem.weight",
        "network.enc.stages.2.blocks.0.conv1.conv.bias",
        "network.enc.stages.2.blocks.0.conv1.all_modules.0.bias",
        "enc.stem.weight",
        "network.enc.stem.a.b",
    ]
    renaming = to_own_names(theirs, load_name_map(written(tmp_path, MAP)))
    assert dict(renaming.names) == {
        "stem.conv.weight": "network.enc.stem.weight",
        "encoder.2.0.first.conv.bias": "network.enc.stages.2.blocks.0.conv1.conv.bias",
    }
    assert renaming.unexpected == tuple(theirs[2:])


def test_the_way_back(tmp_path: Path) -> None:
    names = load_name_map(written(tmp_path, MAP))
    renaming = to_their_names(["encoder.4.1.first.conv.weight", "heads.0.bias"], names)
    theirs = "network.enc.stages.4.blocks.1.conv1.conv.weight"
    assert dict(renaming.names) == {theirs: "encoder.4.1.first.conv.weight"}
    assert renaming.unexpected == ("heads.0.bias",)
    assert own_name(theirs, names) == "encoder.4.1.first.conv.weight"


def test_a_prefix_alone_keeps_the_names() -> None:
    names = NameMap(prefix="body.")
    assert dict(to_own_names(["body.a", "head.b"], names).names) == {"a": "body.a"}
    assert to_own_names(["body.a", "head.b"], names).unexpected == ("head.b",)
    assert dict(to_their_names(["a"], names).names) == {"body.a": "a"}


def test_the_first_pattern_that_fits_counts_and_only_its_names_come_back() -> None:
    names = NameMap(names={"a.{x}": "first.{x}", "{y}.{x}": "rest.{y}.{x}"})
    assert own_name("a.b", names) == "first.b"
    assert own_name("c.b", names) == "rest.c.b"
    # `rest.a.b` would become `a.b`, which comes back as `first.b`
    assert to_their_names(["rest.a.b", "rest.c.b"], names).unexpected == ("rest.a.b",)


def test_a_dot_is_a_dot_and_a_word_no_dots() -> None:
    names = NameMap(names={"a.{x}": "b.{x}"})
    assert own_name("aXb", names) is None
    assert own_name("a.b.c", names) is None
    assert own_name("xa.b", names) is None


def test_two_tensors_of_one_name_are_refused() -> None:
    names = NameMap(names={"a.{x}": "c.{x}", "b.{x}": "c.{x}"})
    with pytest.raises(NameMapError, match=r"c\.w: both a\.w and b\.w would have this name"):
        to_own_names(["a.w", "b.w"], names)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('"a.{x}" = "b"', "the same words in braces"),
        ('"a.{x}" = "b.{y}"', "the same words in braces"),
        ('"a.{x}.{x}" = "b.{x}.{x}"', "twice"),
    ],
)
def test_patterns_that_cannot_be_filled_are_refused(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(NameMapError, match=reason):
        load_name_map(written(tmp_path, f"version = 1\n[names]\n{line}\n"))


def test_unknown_keys_and_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NameMapError, match="unknown key"):
        load_name_map(written(tmp_path, 'version = 1\nprefixes = "a."\n'))
    with pytest.raises(ConfigFileError, match="no such file"):
        load_name_map(tmp_path / "nowhere.toml")
