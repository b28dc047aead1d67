"""A study's file of pretrained weights, named by place or by content."""

from pathlib import Path

import pytest
from pretraining import started_text
from tiny import tiny_study

from fedvol.config.loading import parse_study, parse_toml
from fedvol.config.weights import by_content, with_absolute_file, without_file
from fedvol.types import Digest

ONE = Digest("1" * 64)


def test_content_takes_the_place_of_a_path() -> None:
    here, there = (parse_study(started_text(name), where="x") for name in ("a", "b/c"))
    assert here != there
    assert by_content(here, ONE) == by_content(there, ONE)
    assert by_content(here, ONE) != by_content(there, Digest("2" * 64))
    assert without_file(here) == without_file(by_content(there, ONE))
    plain = tiny_study()
    assert by_content(plain, ONE) == without_file(plain) == plain


@pytest.mark.parametrize(
    ("file", "whole"),
    [("../w", "/data/studies/../w"), ("w", "/data/studies/w"), ("/else/w", "/else/w")],
)
def test_a_path_counts_from_the_studys_folder_on(file: str, whole: str) -> None:
    document = parse_toml(started_text(file), where="x")
    placed = with_absolute_file(document, folder=Path("/data/studies"))
    assert placed["stages"][0]["start"]["weights"]["file"] == whole
    document["stages"][0]["start"]["weights"]["file"] = whole
    assert placed == document


@pytest.mark.parametrize("stages", [None, "x", ["x"], [{"start": "x"}], [{"start": {}}]])
def test_other_values_stay_as_they_are(stages: object) -> None:
    assert with_absolute_file({"stages": stages}, folder=Path("/")) == {"stages": stages}
