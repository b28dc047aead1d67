"""A run as people see it go."""

import io

from rich.console import Console

from fedvol.cli.progress import LiveProgress, PlainProgress, in_words, watching
from fedvol.types import Json

EVENTS: list[tuple[str, dict[str, Json]]] = [
    ("prepare.case", {"site": "a", "case": "1", "done": 1, "total": 2}),
    ("prepare.case", {"site": "a", "case": "2", "done": 2, "total": 2}),
    (
        "run.started",
        {
            "name": "federated",
            "plan": "ab",
            "sites": ["a", "b"],
            "stages": ["finetune"],
            "resumed": False,
        },
    ),
    ("round.opened", {"stage": 0, "round": 1, "rounds": 4, "sites": ["a", "b"]}),
    ("site.training", {"site": "a", "round": 1, "step": 3, "steps": 20, "loss": 0.75}),
    (
        "site.contributed",
        {"site": "a", "round": 1, "cases": 8, "steps": 20, "seconds": 9.0, "loss": 0.7},
    ),
    ("site.refused", {"site": "b", "round": 1, "code": "FV-FED-004", "title": "training diverged"}),
    ("site.evaluating", {"site": "a", "done": 1, "total": 3}),
]
CLOSED: tuple[str, dict[str, Json]] = (
    "round.closed",
    {
        "stage": 0,
        "round": 1,
        "rounds": 4,
        "seconds": 60.0,
        "metric": "dice",
        "value": 0.5,
        "further": {"hd95_mm": 4.25, "nsd": None},
        "best_round": 1,
    },
)

CLOSED_IN_WORDS = (
    "finetune round 1 of 4 | 60.0 s | dice 0.5000 | hd95_mm 4.2500 | nsd undefined | best round 1 "
    "| about 3 min left for this model"
)

TRIVIAL_IN_WORDS = (
    "the pretraining learned nothing: its loss 0.7500 is not below 0.5000, which needs no look at "
    "the input"
)


def _live(events: list[tuple[str, dict[str, Json]]]) -> str:
    view = LiveProgress()
    for name, fields in events:
        view.event(name, **fields)
    stream = io.StringIO()
    Console(file=stream, width=200).print(view.render())
    return stream.getvalue()


def test_plain_lines() -> None:
    stream = io.StringIO()
    with watching(stream) as observer:
        assert isinstance(observer, PlainProgress)
        for name, fields in [*EVENTS, CLOSED]:
            observer.event(name, **fields)
        observer.event("round.abandoned", stage=0, round=2, reason="1 of at least 2 sites")
        observer.event("pretraining.trivial", stage=0, round=2, loss=0.75, trivial_loss=0.5)
        observer.event("site.silent", site="b", round=2)
        observer.event("site.refused", site="b", round=2, code="FV-1", title="x", detail="its own")
        observer.event("site.refused", site="c", round=0, code="FV-1", title="x", detail="")
        observer.event("site.absent", site="d", reason="silent")
        observer.event("site.too_small", site="d", cases=2, total=9, task="voco", patch="96x96x64")
        observer.event("model.evaluating", model="pooled", site="a", done=3, total=3)
        observer.event("run.finished", name="federated", status="finished")
        observer.event("something.new", anything=1)
    assert stream.getvalue().splitlines() == [
        "a: 2 cases prepared",
        "federated: a, b; finetune",
        "b: took no part in round 1: FV-FED-004 training diverged",
        f"federated | {CLOSED_IN_WORDS}",
        "federated: round 2 abandoned: 1 of at least 2 sites",
        f"federated: {TRIVIAL_IN_WORDS}",
        "b: no answer in round 2",
        "b: took no part in round 2: its own",
        "c: takes no part: FV-1 x",
        "d: takes no part: silent",
        "d: 2 of 9 cases left out: voco wants 96x96x64 voxels or more",
        "pooled: judged at a, 3 cases",
        "federated: finished",
    ]


def test_cases_that_were_skipped_are_counted_by_code() -> None:
    stream = io.StringIO()
    codes = ["FV-DATA-003", "", "FV-DATA-009", "FV-DATA-003"]
    with watching(stream) as observer:
        for _ in range(2):  # a study that is planned is checked first; a resumed one starts anew
            for done, code in enumerate(codes, start=1):
                observer.event("prepare.case", site="a", case="c", done=done, total=4, code=code)
    line = "a: 4 cases: 1 prepared, 3 skipped (FV-DATA-003 2, FV-DATA-009 1)"
    assert stream.getvalue().splitlines() == [line, line]


def test_cases_that_stand_for_subjects_are_told() -> None:
    stream = io.StringIO()
    PlainProgress(stream).event("subjects.unnamed", data="/volumes")
    assert stream.getvalue() == (
        "no table names subjects: every case counts as a subject of its own\n"
    )


def test_live_rows() -> None:
    picture = _live(EVENTS[:5])
    assert "federated | finetune round 1 of 4" in picture
    (row,) = (line for line in picture.splitlines() if line.startswith("a "))
    assert "training" in row
    assert "3 of 20" in row
    assert "loss 0.7500" in row
    assert "refused FV-FED-004" in _live(EVENTS)


def test_time_left_counts_open_round() -> None:
    """With one of four rounds closed in a minute, three minutes are left until the next closes."""
    opened: tuple[str, dict[str, Json]]
    opened = ("round.opened", {"stage": 0, "round": 2, "rounds": 4, "sites": ["a", "b"]})
    assert "about 3 min left for this model" in _live([*EVENTS, CLOSED, opened])
    assert "left" not in _live(EVENTS)


def test_time_left_counts_the_models_that_follow() -> None:
    """Each of them takes as many steps in as many rounds: four minutes here."""
    names: list[Json] = ["federated", "local-a", "pooled"]
    picture = _live([("runs.planned", {"names": names}), *EVENTS, CLOSED])
    assert "about 3 min left for this model, 11 min with the 2 that follow" in picture
    last = [("runs.planned", {"names": names[:2]}), *EVENTS, CLOSED]
    assert "7 min with the one that follows" in _live(last)


def test_an_undefined_metric_is_said() -> None:
    name, fields = CLOSED
    assert "dice undefined" in _live([*EVENTS, (name, {**fields, "value": None})])


def test_a_second_run_begins_anew() -> None:
    again: tuple[str, dict[str, Json]]
    again = ("run.started", {"name": "pooled", "sites": ["pooled"], "stages": ["finetune"]})
    picture = _live([*EVENTS, CLOSED, again])
    assert picture.startswith("pooled")
    assert "dice" not in picture
    assert "\nb " not in picture


def test_site_names_are_not_markup() -> None:
    assert "[bold]" in _live([("site.training", {"site": "[bold]", "step": 1, "steps": 2})])


def test_in_words() -> None:
    assert [in_words(s) for s in (0, 89, 90, 600, 5399, 7500)] == [
        "0 s",
        "89 s",
        "2 min",
        "10 min",
        "1 h 30 min",
        "2 h 05 min",
    ]
