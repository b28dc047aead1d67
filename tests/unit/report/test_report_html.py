import base64
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from fedvol.errors import PlanMismatchError
from fedvol.plan import Choice, PlanningRecord
from fedvol.report import Result, write_report
from fedvol.report.html import render_report

VOID = {"meta", "link", "br", "img", "col", "input", "hr"}
HOSTILE = "<script>alert(1)</script>\"'&amp;{{ 7*7 }}"


class Page(HTMLParser):
    """Checks nesting; keeps tags, attributes and text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


def render(document, plan=None, pictures=(), pretext_pictures=()):
    result = Result.model_validate_json(json.dumps(document))
    plan_json = plan.model_dump_json() if plan else ""
    return render_report(
        result, plan_json=plan_json, pictures=pictures, pretext_pictures=pretext_pictures
    )


@pytest.fixture(scope="module")
def text(plan, pictures, whole_document):
    return render(whole_document(plan), plan, pictures)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_is_well_formed_and_its_anchors_exist(page):
    assert page.open == []
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = [value.removeprefix("#") for value in page.values("href")]
    assert targets
    assert set(targets) <= set(ids)
    assert set(page.values("aria-labelledby")) <= set(ids)


def test_the_page_needs_no_network_and_holds_no_script(text, page):
    bare = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
    assert "http:" not in bare
    assert "https:" not in bare
    assert "//" not in bare
    assert "url(" not in bare
    assert "@import" not in bare
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert all(source.startswith("data:") for source in page.values("src"))
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert policy in page.values("content")


def test_the_headline_has_value_interval_n_and_what_it_was_measured_on(page):
    assert "0.871 95 % interval 0.859 to 0.883, n=23 cases" in page.text
    assert "23 test cases (23 subjects) of 4 sites that nobody trained or selected on" in page.text
    assert "Against the pooled model: no difference shown" in page.text
    assert "Against the model trained at west alone: federated is better" in page.text


def test_a_simulation_says_that_it_promises_nothing(page, document):
    words = (
        "Simulation: all hospitals were this one machine; suppression off; "
        "nothing here is a promise of privacy."
    )
    assert words in page.text
    document["simulation"] = False
    assert "all hospitals were this one machine" not in Page(render(document)).text


def test_every_count_and_every_site_and_class_is_there(page, document):
    numbers = {
        stat["n"]
        for evaluation in document["evaluation"].values()
        for metrics in (evaluation["overall"], *evaluation["by_site"].values())
        for stat in metrics.values()
    }
    assert numbers == {2, 3, 4, 7, 9, 23}
    for n in numbers:
        assert f"n={n}" in page.text
    for name in ("north", "east", "south", "west", "liver", "spleen", "kidney"):
        assert name in page.text
    assert "1 undefined" in page.text
    assert "1 penalised" in page.text


def test_every_printed_value_stands_beside_its_interval_and_n(text):
    shown = re.findall(
        r'<span class="v">([^<]+)</span>\s*<span class="i">([^<]+)</span>\s*(.*)', text
    )
    figures = [item for item in shown if "subject" not in item[1]]
    assert len(figures) > 300
    assert all("n=" in rest for _, _, rest in figures)


def test_distances_never_appear_without_their_unit(text):
    cells = re.findall(
        r'data-label="(?:HD95|ASSD) ↓"><span class="v">([^<]+)<', text.replace("\n", "")
    )
    assert cells
    assert all(cell.endswith("\u00a0mm") for cell in cells)


def test_classes_follow_the_label_values_not_the_alphabet(text):
    names = re.findall(r'<span class="m">(liver|spleen|kidney)</span>', text)
    assert names[:3] == ["liver", "spleen", "kidney"]


def test_the_federated_model_comes_first_and_the_others_are_folded(text, page):
    before, after = text.split('id="tables"')
    assert before.count("<details>") == 3
    section = after.split("</section>")[0]
    assert section.count("<details>") == 6
    assert section.index("Federated") < section.index("<details>")


def test_no_model_is_shown_by_its_bare_key(page):
    shown = page.text.split("Models and their files")[0]
    assert "local/" not in shown
    assert "trained at north alone (same number of gradient steps as the federated model" in shown


def test_pictures_are_embedded_with_a_caption_and_an_alternative(text, page):
    sources = page.values("src")
    assert len(sources) == 3
    for source in sources:
        with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
            assert image.size == (480, 480)
    assert page.text.count("Dice 0.702") == 1
    assert "west, case w-0002" in page.text
    assert any("Worst case" in value and "Dice 0.702" in value for value in page.values("alt"))


def test_who_contributed_when_is_logged_with_code_and_reason(page):
    assert "FV-FED-005: time limit passed" in page.text
    assert "FV-PRIV-001: update not finite" in page.text
    assert "2 attempts" in page.text
    assert "validation Dice 0.881 (n=22)" in page.text
    assert "not asked" in page.text


def test_skipped_cases_are_named_with_code_and_fault(page):
    assert "FV-DATA-007 grids differ 2 cases" in page.text
    assert "north / n-0077 FV-DATA-009 3 voxels are not finite" in page.text


def test_the_run_can_be_remade_from_the_page(page, plan):
    command = "fedvol simulate STUDY.toml --data DIR --out DIR"
    assert f"{command} --baselines local,ensemble,pooled --device cpu" in page.text
    assert plan.digest in page.text
    assert "1" * 64 in page.text
    assert "torch 2.13.0" in page.text
    assert '"steps_per_round": 40' in page.text


def test_a_plan_of_another_run_is_refused(document, plan):
    document["plan"]["digest"] = "0" * 64
    with pytest.raises(PlanMismatchError):
        render(document, plan)


def test_the_same_run_gives_the_same_bytes(document, plan, pictures, text):
    assert render(document, plan, pictures) == text


def test_writing_leaves_one_whole_file(tmp_path, result, plan, pictures, text):
    path = tmp_path / "report.html"
    write_report(path, result=result, plan_json=plan.model_dump_json(), pictures=pictures)
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_hostile_names_are_text_everywhere(document):
    swapped = json.loads(
        json.dumps(document)
        .replace('"north"', json.dumps(HOSTILE))
        .replace('"local/north"', json.dumps(f"local/{HOSTILE}"))
    )
    swapped["purpose"] = swapped["study"]["name"] = swapped["device"] = HOSTILE
    swapped["versions"] = {HOSTILE: HOSTILE}
    swapped["privacy"] = {
        "released": {"what": HOSTILE},
        "secure_sum": {"state": "on", "words": HOSTILE},
        "ledger": {
            HOSTILE: {"epsilon": 1.0, "delta": 1e-5, "unit": HOSTILE, "accountant": HOSTILE}
        },
    }
    swapped["skipped_cases"] = {HOSTILE: {HOSTILE: HOSTILE}}
    swapped["files"] = {HOSTILE: "4" * 64}
    swapped["reason"] = HOSTILE
    swapped["status"] = "failed"
    evaluation = swapped["evaluation"]["federated"]
    evaluation["by_class"][HOSTILE] = evaluation["by_class"].pop("liver")
    evaluation["by_group"] = {HOSTILE: evaluation["overall"]}
    evaluation["overall"][HOSTILE] = evaluation["overall"]["dice"]
    state = swapped["stages"][0]["rounds"][0]["sites"]["east"]
    state.update(state=HOSTILE, code=HOSTILE, reason=HOSTILE)
    text = render(swapped)
    page = Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert page.open == []
    assert HOSTILE in page.text
    assert not [name for _, name, _ in page.attributes if "alert" in name]


@pytest.mark.parametrize("num_rounds", [0, 2])
@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_run_that_did_not_finish_shows_what_there_is(document, plan, status, num_rounds):
    document |= {
        "status": status,
        "reason": "FV-FED-001 round 3: too few sites",
        "evaluation": {},
        "comparisons": {},
        "models": {},
        "files": {},
    }
    document["stages"][0]["rounds"] = document["stages"][0]["rounds"][:num_rounds]
    document["stages"][0]["best_round"] = None
    page = Page(render(document, plan))
    assert "FV-FED-001 round 3: too few sites" in page.text
    assert "The federated model was not judged on test cases." in page.text
    assert "No round was released." in page.text
    assert page.open == []
    assert ("Round log" in page.text) == (num_rounds > 0)


def test_a_run_that_ended_before_anything_still_has_a_page(document):
    for key in ("evaluation", "comparisons", "models", "files", "sites", "skipped"):
        document[key] = {}
    document["skipped_cases"] = {}
    document |= {"stages": [], "status": "failed", "versions": {}, "privacy": {}}
    page = Page(render(document))
    assert "No round was closed." in page.text
    assert "The run ended before it had a plan to show." in page.text
    assert "No reason was recorded." in page.text
    assert "take it as absent" in page.text


def test_missing_figures_print_their_reason(document):
    none = {"value": None, "n": 0, "low": None, "high": None, "undefined": 4}
    federated = document["evaluation"]["federated"]
    federated["overall"]["dice"] = none
    federated["by_site"]["west"]["dice"] = none | {"withheld": "suppressed"}
    federated["by_site"]["east"]["dice"] = none | {"withheld": "secure_sum"}
    del federated["by_site"]["south"]["nsd"]
    for item in document["stages"][0]["rounds"]:
        for site in item["sites"].values():
            site.update(loss=None, cases=None, steps=None)
    text = render(document)
    page = Page(text)
    assert "not defined (n=0)" in page.text
    assert "withheld: too few cases (suppressed)" in page.text
    assert "withheld: only the sum over all sites is known (secure sum)" in page.text
    assert "not reported" in page.text
    assert "not given" in page.text
    bare = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"\b(nan|inf|None)\b", bare)


def test_one_model_alone_has_nothing_to_be_compared_with(document):
    document["evaluation"] = {"federated": document["evaluation"]["federated"]}
    document["models"] = {"federated": document["models"]["federated"]}
    document["comparisons"] = {}
    page = Page(render(document))
    assert "No other model was trained in this run" in page.text
    assert "--baselines" not in page.text


def test_cases_that_stand_for_subjects_are_told(document):
    words = "No table names subjects, so every case counts as a subject of its own"
    assert words not in Page(render(document)).text
    assert words in Page(render(document | {"has_subjects": False})).text


def test_what_was_compared_across_sites_is_told(document):
    assert "pseudonyms and images were compared across sites" in Page(render(document)).text
    unchecked = Page(render(document | {"overlap": "not checked"})).text
    assert "Patients at more than one site: not checked across sites." in unchecked


def test_models_without_an_interval_are_not_called_untrained(document):
    for found in document["comparisons"]["pooled"]:
        found |= {"low": None, "high": None}
    page = Page(render(document))
    assert "Against the pooled model: too few subjects to say" in page.text
    assert "no interval (too few subjects)" in page.text
    document["comparisons"] = {name: [] for name in document["comparisons"]}
    page = Page(render(document))
    assert "No other model was trained" not in page.text
    assert "Other models were judged, but none can be compared" in page.text


def test_planned_values_stand_beside_their_reasons(plan, whole_document):
    choices = (
        Choice(key="patches.size", value=[40, 56, 40], reason="the median volume has 35 voxels"),
        Choice(key="patches.batch_size", value=4, reason=HOSTILE),
    )
    record = PlanningRecord(fingerprint="b" * 64, choices=choices)
    # Not a copy of the plan: it would carry the digest that was reckoned before.
    fields = {name: getattr(plan, name) for name in type(plan).model_fields}
    planned = type(plan)(**{**fields, "planning": record})
    found = render(whole_document(planned), planned)
    words = Page(found).text
    assert "patches.size [40, 56, 40] the median volume has 35 voxels" in words
    assert HOSTILE in words
    assert "<script>alert" not in found
    assert "Planned values" not in Page(render(whole_document(plan), plan)).text


def pretraining(loss, **others):
    """A pretrain stage of one round."""

    def stat(value):
        return {"value": value, "n": 9, "low": None, "high": None, "undefined": 0}

    figures = {"pretext_loss": loss, **others}
    return {
        "name": "pretrain",
        "kind": "mae",
        "strategy": "fedavg",
        "select_by": "pretext_loss",
        "best_round": 1,
        "rounds": [
            {
                "index": 1,
                "started_s": 0.0,
                "seconds": 1.0,
                "sites": {},
                "validation": {key: stat(value) for key, value in figures.items()},
            }
        ],
    }


def test_a_pretraining_shows_every_figure_and_what_it_is_to_be_compared_with(document):
    told = {"pretext_trivial_loss": 0.5, "pretext_body_loss": 0.75, "feature_variance": 0.125}
    document["stages"].insert(0, pretraining(0.25, **told))
    page = Page(render(document)).text
    assert "answer that does not look at the input has a loss of 0.500 there" in page
    assert "learned nothing" not in page.split("pretext loss on body")[0]
    for words in ("pretext loss on body 0.750", "feature variance 0.125"):
        assert words in page  # in the round log
    for title in ("pretext loss on body (no unit)", "feature variance (0 to 1)"):
        assert f"Validation {title} after each round" in page
    assert "without looking" not in page  # the same in every round: no curve


def test_a_pretraining_that_is_no_better_than_a_constant_says_so(document):
    document["stages"].insert(0, pretraining(0.5, pretext_trivial_loss=0.5))
    page = Page(render(document)).text
    assert "It learned nothing: its loss is not below 0.500" in page


def test_a_probe_is_shown_for_the_rounds_that_had_one(document):
    stage = pretraining(0.25)
    probed = pretraining(0.25, probe_dice=0.625)["rounds"][0]
    stage["rounds"] += [probed | {"index": 2}, stage["rounds"][0] | {"index": 3}]
    document["stages"].insert(0, stage)
    text = render(document)
    page = Page(text).text
    assert "Validation Dice of a probe (0 to 1) after some rounds" in page
    assert page.count("Dice of a probe 0.625") == 1  # in the round log, of one round
    charts = [one.split("</svg>")[0] for one in text.split("<svg")]
    (chart,) = [one for one in charts if "Dice of a probe (0 to 1)" in one]
    assert chart.count("<circle") == 1
    assert "finetuned from" not in chart  # round 1 lies beside what was probed


def test_what_a_pretext_task_asked_is_shown_with_its_stage_and_nowhere_without(
    document, pretext_pictures
):
    assert "What the network was asked" not in render(document)
    document["stages"].insert(0, pretraining(0.25))
    assert "What the network was asked" not in render(document)
    page = Page(render(document, pretext_pictures=pretext_pictures))
    assert page.text.count("What the network was asked, and what it answered") == 1
    assert "They alone count in the loss" in page.text
    assert "input wanted given north, case n-0003, axial slice 5 of 16 of a patch" in page.text
    assert page.values("alt")[:3] == [
        f"{said} case e-0001 of east, axial slice 5 of 16 of a patch"
        for said in (
            "Input: what the network saw of",
            "Wanted: what it should have answered for",
            "Given: what it answered for",
        )
    ]
