import pytest

from fedvol.report.result import Difference, PrivacyResult, Protection, SpentResult
from fedvol.report.view import headline
from fedvol.report.wording import (
    code_title,
    difference_words,
    model_order,
    model_words,
    privacy_words,
    unequal_steps,
    verdict_words,
)


def difference(metric, value, low, high, **changes):
    return Difference(metric=metric, value=value, low=low, high=high, **changes)


@pytest.mark.parametrize(
    ("metric", "value", "low", "high", "words"),
    [
        ("dice", 0.02, 0.01, 0.03, "federated is better"),
        ("dice", -0.02, -0.03, -0.01, "federated is worse"),
        ("dice", 0.02, -0.01, 0.05, "no difference shown"),
        ("dice", 0.02, 0.0, 0.05, "no difference shown"),
        ("hd95_mm", -1.0, -2.0, -0.5, "federated is better"),
        ("assd_mm/liver", 1.0, 0.5, 2.0, "federated is worse"),
        ("unheard_of", 1.0, 0.5, 2.0, "federated is higher"),
        ("dice", 0.02, None, None, "too few subjects to say"),
    ],
)
def test_a_difference_says_no_more_than_its_interval_shows(metric, value, low, high, words):
    assert verdict_words(difference(metric, value, low, high)) == words


def test_a_difference_carries_sign_unit_interval_and_n():
    words = difference_words(difference("hd95_mm", -1.0, -2.0, 0.5, n=12))
    assert words == "−1.00\u00a0mm HD95 (95 % interval −2.00 to +0.50\u00a0mm; n=12)"


def test_a_difference_names_both_numbers_of_cases_where_they_differ():
    one = difference("dice", 0.0125, None, None, n=3, other_n=3)
    assert difference_words(one).endswith("; n=3)")
    one = difference("dice", 0.0125, None, None, n=3, other_n=4)
    assert difference_words(one).endswith("; n=3 against 4)")


def test_a_difference_without_interval_says_why():
    words = difference_words(difference("dice", 0.0125, None, None, n=3))
    assert words == "+0.012 Dice (no interval (too few subjects); n=3)"


def test_a_local_model_is_explained_with_its_steps(result):
    words = model_words("local/north", result=result)
    assert words.meaning == (
        "trained at north alone (same number of gradient steps as the federated model: 3,200)"
    )
    assert "local/" not in words.label + words.phrase + words.meaning


def test_other_numbers_of_steps_are_not_called_the_same(result):
    model = result.models["pooled"].model_copy(update={"steps": 3_000})
    changed = result.model_copy(update={"models": result.models | {"pooled": model}})
    meaning = model_words("pooled", result=changed).meaning
    assert meaning.endswith("(3,000 gradient steps; the federated model took 3,200 over all sites)")
    assert unequal_steps("pooled", result=changed) == (
        "unequal gradient steps: federated 3,200, the other 3,000"
    )
    assert unequal_steps("pooled", result=result) == ""


def test_with_personal_models_a_baseline_is_said_to_have_taken_more_steps(result):
    """Baselines take the steps of a personalise stage too; the federated model did not."""
    more = result.models["pooled"].model_copy(update={"steps": 4_000})
    models = result.models | {"pooled": more, "personalised": more}
    changed = result.model_copy(update={"models": models})
    assert model_words("pooled", result=changed).meaning.endswith(
        "(4,000 gradient steps; the federated model took 3,200 over all sites, "
        "and with the personalised models 4,000)"
    )
    assert model_words("personalised", result=changed).meaning.endswith(
        "(4,000 gradient steps over all sites, the federated model's 3,200 among them)"
    )
    (pooled,) = [line for line in headline(changed).comparisons if line.model.key == "pooled"]
    assert pooled.detail.endswith("; unequal gradient steps: federated 3,200, the other 4,000")


def test_models_are_in_the_order_of_interest():
    assert model_order(["local/b", "pooled", "local/a", "federated", "ensemble"]) == (
        "federated",
        "pooled",
        "ensemble",
        "local/a",
        "local/b",
    )


def test_codes_are_translated_by_the_error_tree():
    assert code_title("FV-DATA-007") == "grids differ"
    assert code_title("FV-NONE-999") == "a code this version does not know"


def test_protections_that_were_not_recorded_count_as_absent():
    words = dict(privacy_words(PrivacyResult(secure_sum=Protection(state="on"))))
    assert words["Secure sum"] == "on"
    assert "take it as absent" in words["Differential privacy"]
    assert set(words) == {"Secure sum", "Differential privacy"}


def test_a_protection_is_told_with_its_reason_and_the_ledger_with_each_site():
    spent = {"epsilon": 2.5, "delta": 1e-5, "unit": "subject", "accountant": "rdp"}
    privacy = PrivacyResult(
        suppression=Protection(state="off", words="every case is the researcher's own"),
        ledger={"north": SpentResult.model_validate(spent)},
    )
    words = dict(privacy_words(privacy))
    assert words["Suppression of small groups"] == "off: every case is the researcher's own"
    assert words["Privacy spent at north"] == "epsilon 2.5 at delta 1e-05 per subject, by rdp"
