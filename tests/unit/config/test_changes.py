from typing import Any

import pytest
from tiny import tiny_text

from fedvol.config.changes import changed
from fedvol.config.loading import parse_toml

TINY = parse_toml(tiny_text(), where="tiny.toml")


def test_nothing_changes_nothing_and_the_document_stays() -> None:
    before = repr(TINY)
    assert changed(TINY, {}) == TINY
    changed(TINY, {"patches": {"batch_size": 5}, "stages": {"pretrain": {"rounds": 1}}})
    assert repr(TINY) == before


def test_tables_are_changed_key_by_key_and_lists_as_a_whole() -> None:
    result = changed(TINY, {"patches": {"size": [8, 8, 8]}, "seed": 3})
    assert result["patches"] == {"size": [8, 8, 8], "batch_size": 2}
    assert result["seed"] == 3


def test_a_table_of_another_kind_takes_the_place_of_the_old_one() -> None:
    normalisation = changed(TINY, {"preprocessing": {"normalisation": {"kind": "z_score"}}})
    assert normalisation["preprocessing"]["normalisation"] == {"kind": "z_score"}
    same = {"preprocessing": {"normalisation": {"kind": "window", "window_hu": [0.0, 1.0]}}}
    assert (
        changed(TINY, same)["preprocessing"]["normalisation"]
        == same["preprocessing"]["normalisation"]
    )


def test_stages_are_changed_by_kind_and_put_in_their_place() -> None:
    result = changed(
        TINY,
        {
            "stages": {
                "personalise": {"rounds": 1},
                "finetune": {"rounds": 9},
                "pretrain": {"rounds": 2},
            }
        },
    )
    assert [(one["kind"], one["rounds"]) for one in result["stages"]] == [
        ("pretrain", 2),
        ("finetune", 9),
        ("personalise", 1),
    ]
    assert result["stages"][1]["steps_per_round"] == TINY["stages"][0]["steps_per_round"]


@pytest.mark.parametrize("stages", [[], [{"kind": "finetune"}]])
def test_a_list_of_stages_takes_the_place_of_all(stages: list[dict[str, Any]]) -> None:
    assert changed(TINY, {"stages": stages})["stages"] == stages


def test_a_stage_of_no_known_kind_comes_last() -> None:
    result = changed(TINY, {"stages": {"pretrian": {"rounds": 2}}})
    assert [one["kind"] for one in result["stages"]] == ["finetune", "pretrian"]
