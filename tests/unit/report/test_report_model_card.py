import json

from fedvol.report import Result, write_model_card
from fedvol.report.model_card import HUMAN_ITEMS, render_model_card
from fedvol.report.rendering import escape_markdown


def test_the_card_says_what_the_run_knows(result, plan):
    card = render_model_card(result, plan_json=plan.model_dump_json())
    assert card.startswith("# Model card: abdomen-ct\n")
    assert "**Research use only; not a medical device.**" in card
    assert "nothing here is a promise of privacy" in card
    assert "| north | 41 (39) | 8 | 9 | 3 |" in card
    assert "0.871 (95 % interval 0.859 to 0.883; n=23)" in card
    assert "trained at west alone (same number of gradient steps" in card
    assert f"`{plan.digest}`" in card
    assert "n-0042" not in card


def test_the_card_lists_what_a_human_must_write(result, plan):
    card = render_model_card(result, plan_json=plan.model_dump_json())
    assert card.count("- [ ] ") == len(HUMAN_ITEMS) >= 10


def test_tables_of_the_card_are_whole(result, plan):
    card = render_model_card(result, plan_json=plan.model_dump_json())
    tables = [part for part in card.split("\n\n") if part.startswith("|")]
    assert len(tables) == 2
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_card_tells_where_cases_stand_for_subjects(document):
    words = "No table names subjects: every case counts as a subject of its own."
    for has_subjects in (True, False):
        changed = document | {"has_subjects": has_subjects}
        card = render_model_card(Result.model_validate_json(json.dumps(changed)), plan_json="")
        assert (words in card) is not has_subjects
        assert "across sites: checked by pseudonym and image." in card


def test_names_cannot_become_markup(document):
    document["purpose"] = "<img src=x> | `code` [link](x) & more"
    card = render_model_card(Result.model_validate_json(json.dumps(document)), plan_json="")
    assert "<img" not in card.replace("\\<", "")
    assert escape_markdown("a|b\n<c>") == "a\\|b \\<c\\>"


def test_a_failed_run_has_a_card_without_figures(document):
    document |= {"status": "failed", "reason": "too few sites", "evaluation": {}}
    document["comparisons"] = {}
    card = render_model_card(Result.model_validate_json(json.dumps(document)), plan_json="")
    assert "run failed: too few sites." in card
    assert "None: the run ended before the test." in card


def test_the_card_is_written_whole(tmp_path, result, plan):
    path = tmp_path / "model-card.md"
    write_model_card(path, result=result, plan_json=plan.model_dump_json())
    assert path.read_text().endswith("\n")
    assert list(tmp_path.iterdir()) == [path]
