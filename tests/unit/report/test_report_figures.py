import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.report.figures import (
    count,
    duration,
    figure,
    metric_info,
    metric_names,
    number,
    quantity,
    size,
)
from fedvol.report.result import StatResult

DICE, HD95 = metric_info("dice"), metric_info("hd95_mm/liver")


def stat(**changes):
    values = {"value": 0.8715, "n": 41, "low": 0.85, "high": 0.89, "undefined": 0}
    return StatResult(**(values | changes))


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (0.8125, 2, "0.81"),
        (0.8715, 3, "0.872"),
        (0.8725, 3, "0.872"),
        (2.675, 2, "2.68"),
        (0.0005, 3, "0.000"),
        (1.0, 3, "1.000"),
        (-0.0004, 3, "0.000"),
        (-0.0125, 2, "−0.01"),
        (1e-12, 3, "0.000"),
        (123456.0, 2, "123456.00"),
    ],
)
def test_numbers_are_rounded_half_to_even_on_their_decimal_form(value, decimals, text):
    assert number(value, decimals=decimals) == text


@given(st.floats(-1e6, 1e6, allow_nan=False), st.integers(0, 4))
@settings(max_examples=50, deadline=None)
def test_a_printed_number_is_within_half_of_its_last_place(value, decimals):
    printed = float(number(value, decimals=decimals).replace("−", "-"))
    assert math.isclose(printed, value, rel_tol=1e-12, abs_tol=0.5000001 * 10**-decimals)


def test_a_sign_is_printed_only_where_a_difference_is_not_zero():
    assert number(0.01, decimals=3, signed=True) == "+0.010"
    assert number(0.0001, decimals=3, signed=True) == "0.000"


def test_every_figure_has_unit_interval_and_n():
    shown = figure(stat(value=4.125, low=3.0, high=5.255), metric=HD95)
    assert shown.value == "4.12\u00a0mm"
    assert shown.interval == "3.00 to 5.26\u00a0mm"
    assert shown.n == "n=41"
    assert shown.sentence == "4.12\u00a0mm (95 % interval 3.00 to 5.26\u00a0mm; n=41)"


def test_a_figure_without_interval_says_so():
    shown = figure(stat(low=None, high=None), metric=DICE)
    assert shown.sentence == "0.872 (no interval; n=41)"


@pytest.mark.parametrize(
    ("withheld", "text"),
    [
        (None, "not defined (n=0)"),
        ("undefined", "not defined (n=0)"),
        ("suppressed", "withheld: too few cases (suppressed)"),
        ("secure_sum", "withheld: only the sum over all sites is known (secure sum)"),
    ],
)
def test_a_missing_value_gives_its_reason_and_never_a_blank(withheld, text):
    shown = figure(stat(value=None, n=0, low=None, high=None, withheld=withheld), metric=DICE)
    assert (shown.value, shown.is_given, shown.n) == (text, False, "")


def test_a_figure_that_is_absent_is_named_as_not_reported():
    assert figure(None, metric=DICE).value == "not reported"


def test_undefined_and_penalised_cases_are_counted_beside_the_value():
    assert figure(stat(undefined=2, penalised=1), metric=DICE).notes == (
        "2 undefined",
        "1 penalised",
    )


def test_metrics_have_a_fixed_order_and_lose_their_classes():
    keys = ["assd_mm", "zeta", "dice/liver", "hd95_mm", "nsd", "dice", "auc"]
    assert metric_names(keys) == ("dice", "nsd", "hd95_mm", "assd_mm", "auc", "zeta")


def test_directions_point_the_right_way():
    arrows = [metric_info(key).arrow for key in ("dice", "nsd", "hd95_mm", "assd_mm", "other")]
    assert arrows == ["↑", "↑", "↓", "↓", ""]
    assert metric_info("other").direction == "direction not known"
    assert quantity(0.5, metric=DICE) == "0.500"


def test_times_and_sizes_carry_their_unit():
    assert duration(41.25) == "41.2\u00a0s"
    assert duration(59.96) == "60.0\u00a0s"
    assert duration(61) == "1\u00a0min 01\u00a0s"
    assert duration(3725) == "1\u00a0h 02\u00a0min"
    assert (size(0), size(999), size(5_614_080)) == ("0\u00a0B", "999\u00a0B", "5.6\u00a0MB")
    assert (count(1, "case"), count(1200, "case")) == ("1 case", "1,200 cases")
