import json
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.report.charts import loss_chart, validation_chart
from fedvol.report.forest import forest
from fedvol.report.participation import participation_grid, states_seen
from fedvol.report.result import StageResult
from fedvol.report.svg import nice_scale, round_ticks, spread

SITES = ("east", "north", "south", "west")


def stage_of(document, **changes):
    return StageResult.model_validate_json(json.dumps(document["stages"][0] | changes))


def texts(svg):
    return [item.text for item in svg.iter("text")]


def classes(svg, element):
    return [item.get("class") for item in svg.iter(element)]


def test_the_validation_chart_shows_every_site_the_whole_and_the_released_round(document):
    svg = ET.fromstring(validation_chart(stage_of(document), sites=SITES))
    assert svg.get("role") == "img"
    assert svg.findtext("title") == "Validation Dice (0 to 1) after each round"
    assert "Round 17 was released" in svg.findtext("desc")
    lines = [item for item in classes(svg, "path") if item.startswith("line")]
    assert sorted(lines) == ["line all", "line s0", "line s1", "line s2", "line s3"]
    assert {"east", "north", "south", "west", "all sites", "released: round 17"} <= set(texts(svg))


def test_a_missing_value_breaks_the_line_instead_of_bridging_it(document):
    svg = ET.fromstring(loss_chart(stage_of(document), sites=SITES))
    lines = classes(svg, "path")
    assert lines.count("line s0") == 1
    assert lines.count("line s2") == 2
    assert lines.count("line s3") == 3


def test_dots_lie_inside_the_picture(document):
    svg = ET.fromstring(validation_chart(stage_of(document), sites=SITES))
    _, _, width, height = map(float, svg.get("viewBox").split())
    for dot in svg.iter("circle"):
        assert 0 <= float(dot.get("cx")) <= width
        assert 0 <= float(dot.get("cy")) <= height


@pytest.mark.parametrize("num_rounds", [0, 1, 2])
def test_few_rounds_are_drawn_too(document, num_rounds):
    rounds = document["stages"][0]["rounds"][:num_rounds]
    stage = stage_of(document, rounds=rounds, best_round=None)
    for chart in (validation_chart, loss_chart):
        svg = ET.fromstring(chart(stage, sites=SITES))
        assert ("no values" in texts(svg)) == (num_rounds == 0)
    ET.fromstring(participation_grid(stage, sites=SITES))


def test_many_sites_are_grey_and_unnamed(document):
    many = tuple(f"site_{index}" for index in range(30))
    svg = ET.fromstring(validation_chart(stage_of(document), sites=(*SITES, *many)))
    assert "line many" in classes(svg, "path")
    assert "north" not in texts(svg)


def test_hostile_names_stay_text_in_a_chart(document):
    name = "<script>\"'&"
    for item in document["stages"][0]["rounds"]:
        item["sites"][name] = item["sites"]["north"]
    svg = ET.fromstring(loss_chart(stage_of(document), sites=(*SITES, name)))
    assert name in texts(svg)
    grid = ET.fromstring(participation_grid(stage_of(document), sites=(*SITES, name)))
    assert name in texts(grid)


def test_the_grid_has_a_letter_for_every_round_and_site(document):
    stage = stage_of(document)
    svg = ET.fromstring(participation_grid(stage, sites=SITES))
    letters = [item.text for item in svg.iter("text") if "letter" in item.get("class")]
    assert len(letters) == 20 * 4
    assert (letters.count("S"), letters.count("R"), letters.count("–")) == (3, 1, 1)
    assert "west contributed in 16 of 20 rounds" in svg.findtext("desc")
    assert states_seen(stage, sites=SITES) == ("contributed", "silent", "refused", "not_asked")


def test_the_grid_wraps_long_runs(document):
    rounds = document["stages"][0]["rounds"]
    long = [rounds[index % 20] | {"index": index + 1} for index in range(60)]
    svg = ET.fromstring(participation_grid(stage_of(document, rounds=long), sites=SITES))
    assert float(svg.get("width")) < 700
    assert len([t for t in svg.iter("text") if "letter" in t.get("class")]) == 240


def test_the_forest_puts_every_model_on_one_axis(result):
    chart = forest(result, metric="dice", sites=SITES)
    assert [panel.title for panel in chart.panels] == [
        "All sites' test cases",
        *(f"Test cases of {site}" for site in SITES),
    ]
    at = {}
    for row in chart.panels[0].rows:
        svg = ET.fromstring(row.bar)
        assert svg.get("role") == "img"
        assert row.figure.n in svg.findtext("title")
        at[row.model.key] = float(svg.find("circle").get("cx").removesuffix("%"))
        ends = [
            float(line.get(end).removesuffix("%"))
            for line in svg.iter("line")
            for end in ("x1", "x2")
        ]
        assert all(0 <= end <= 100 for end in ends)
    order = sorted(at, key=at.__getitem__)
    assert order[0] == "local/west"
    assert order[-2:] == ["federated", "pooled"]


@given(st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_scale_holds_its_values_and_has_few_round_ticks(values):
    scale = nice_scale(values, start=0, end=100)
    slack = 1e-6 * (scale.high - scale.low)
    assert scale.low <= min(values) + slack
    assert scale.high >= max(values) - slack
    assert 2 <= len(scale.ticks) <= 9
    assert all(-0.1 <= scale(value) <= 100.1 for value in values)


def test_a_share_never_leaves_its_bounds():
    scale = nice_scale([1.0, 1.0], start=0, end=1, bounds=(0.0, 1.0))
    assert scale.high == 1.0


def test_rounds_are_numbered_from_one_with_round_steps():
    assert round_ticks(20) == (1, 5, 10, 15, 20)
    assert round_ticks(1) == (1,)
    assert len(round_ticks(1000)) <= 8


@given(st.lists(st.floats(0, 100), max_size=6))
@settings(max_examples=40, deadline=None)
def test_labels_are_spread_apart_in_their_order(wanted):
    placed = spread(wanted, gap=10, low=0, high=100)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    ranked = [placed[index] for index in order]
    assert all(b - a >= 10 - 1e-6 for a, b in pairwise(ranked))
    assert all(-1e-6 <= at <= 100 + 1e-6 for at in placed)
