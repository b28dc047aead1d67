from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.errors import ContributionError
from fedvol.federation import (
    Action,
    MetricSums,
    Reply,
    Request,
    check_evaluation,
    check_health,
    check_identity,
    check_norms,
    check_update,
    from_arrays,
    to_arrays,
)
from fedvol.plan import TensorKind, TensorSpec
from fedvol.types import Digest, RunId, SiteId

SPECS = (
    TensorSpec(name="conv.weight", shape=(2, 3), dtype="float32", kind=TensorKind.ENCODER),
    TensorSpec(name="norm.mean", shape=(3,), dtype="float64", kind=TensorKind.NORM),
)
KEYS = ("dice", "dice/liver", "hd95_mm")
REPLICATES = 5


def request(action: Action) -> Request:
    return Request(
        run=RunId("r1"),
        plan=Digest("0" * 64),
        stage=0,
        round=3,
        site=SiteId("site_a"),
        action=action,
        state={},
        arguments={},
        limit_s=1.0,
    )


def reply(action: Action, *, values: dict, tensors: dict) -> Reply:
    return Reply(
        run=RunId("r1"),
        stage=0,
        round=3,
        site=SiteId("site_a"),
        action=action,
        code="",
        title="",
        tensors=tensors,
        values=values,
        bytes_up=0,
        bytes_down=0,
    )


def update() -> Reply:
    return reply(
        Action.FINETUNE,
        values={"cases": 7, "steps": 10, "train_seconds": 1.5, "loss": 0.3},
        tensors={"conv.weight": np.ones((2, 3), "f4"), "norm.mean": np.ones(3, "f4")},
    )


def sums() -> MetricSums:
    shape = (len(KEYS), 1 + REPLICATES)
    counts = np.full(shape, 6, dtype=np.float64)
    values = np.array([4.5, 5.0, 30.0])[:, np.newaxis] * np.ones(shape)
    return MetricSums(
        keys=KEYS,
        sums=values,
        counts=counts,
        undefined=np.array([0, 1, 2]),
        penalised=np.array([0, 0, 1]),
        lone_sites=np.array([0, 1, 0]),
    )


def evaluation(part: MetricSums | None = None, **changes) -> Reply:
    values = {
        "keys": list(KEYS),
        "suppressed": [],
        "cases": 8,
        "evaluate_seconds": 2.0,
    }
    tensors = dict(to_arrays(part or sums())[0])
    return reply(Action.TEST, values=values | changes, tensors=tensors)


def check(answer: Reply, **changes):
    asked = {"travelling": SPECS, "steps": 10, "cases": 7} | changes
    return check_update(answer, request=request(Action.FINETUNE), **asked)


def judge(answer: Reply):
    return check_evaluation(answer, request=request(Action.TEST), keys=KEYS, replicates=REPLICATES)


@pytest.mark.parametrize(
    "change",
    [
        {"run": RunId("r2")},
        {"stage": 1},
        {"round": 2},
        {"site": SiteId("site_b")},
        {"action": Action.TEST},
    ],
    ids=lambda change: next(iter(change)),
)
def test_answer_to_another_question_is_refused(change: dict) -> None:
    with pytest.raises(ContributionError, match="another question"):
        check_identity(replace(update(), **change), request=request(Action.FINETUNE))


def test_good_update_passes() -> None:
    assert check(update()).cases == 7
    assert check(update(), cases=None).steps == 10


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"cases": 0}, "no case"),
        ({"cases": 8}, "stated 7"),
        ({"cases": -1}, "TrainReport"),
        ({"cases": True}, "TrainReport"),
        ({"steps": 11}, "11 steps instead of 10"),
        ({"loss": "low"}, "TrainReport"),
        ({"loss": float("nan")}, "TrainReport"),
        ({"train_seconds": -1.0}, "TrainReport"),
        ({"patient": "P. Smith"}, "TrainReport"),
    ],
)
def test_bad_report_is_refused_without_repeating_it(values: dict, words: str) -> None:
    bad = update()
    with pytest.raises(ContributionError, match=words) as caught:
        check(replace(bad, values={**bad.values, **values}))
    assert "Smith" not in str(caught.value)
    assert "site site_a, round 3" in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"conv.weight": None}, "lacks 1 tensors: conv.weight"),
        ({"extra": np.ones(1, "f4")}, "1 unknown"),
        ({"conv.weight": np.ones((3, 2), "f4")}, "shape"),
        ({"conv.weight": np.ones((2, 3), "f8")}, "type float64"),
        ({"norm.mean": np.array([1, np.nan, 1], "f4")}, "norm.mean holds NaN"),
        ({"norm.mean": np.array([1, np.inf, 1], "f4")}, "norm.mean holds NaN"),
    ],
)
def test_bad_update_is_refused(tensors: dict, words: str) -> None:
    held = {k: v for k, v in {**update().tensors, **tensors}.items() if v is not None}
    with pytest.raises(ContributionError, match=words):
        check(replace(update(), tensors=held))


def test_a_refusal_is_not_checked() -> None:
    with pytest.raises(ValueError, match="FV-DATA-017"):
        check(replace(update(), code="FV-DATA-017"))


def test_norms_keep_their_own_types() -> None:
    answer = reply(Action.NORMS, values={}, tensors={"norm.mean": np.zeros(3)})
    asked = request(Action.NORMS)
    assert set(check_norms(answer, request=asked, local=SPECS[1:])) == {"norm.mean"}
    with pytest.raises(ContributionError, match="type float32"):
        wrong = replace(answer, tensors={"norm.mean": np.zeros(3, "f4")})
        check_norms(wrong, request=asked, local=SPECS[1:])
    with pytest.raises(ContributionError, match="further values"):
        check_norms(replace(answer, values={"age": 40}), request=asked, local=SPECS[1:])


def test_health() -> None:
    values = {
        "software": "0.1.0",
        "architecture": "0" * 64,
        "training_cases": 3,
        "validation_cases": 1,
        "test_cases": 1,
        "skipped": {"FV-DATA-007": 1},
    }
    asked = request(Action.HEALTH)
    answer = reply(Action.HEALTH, values=values, tensors={})
    assert check_health(answer, request=asked).skipped == {"FV-DATA-007": 1}
    with pytest.raises(ContributionError):
        check_health(replace(answer, tensors={"x": np.ones(1)}), request=asked)
    with pytest.raises(ContributionError):
        check_health(replace(answer, values={**values, "skipped": [1]}), request=asked)


def test_good_evaluation_comes_back_unchanged() -> None:
    report, found = judge(evaluation())
    assert report.cases == 8
    np.testing.assert_array_equal(found.sums, sums().sums)
    assert found.stat("dice").value == 0.75


def test_suppressed_metric_adds_nothing() -> None:
    part = sums()
    part.sums[1] = np.nan
    for counted in (part.counts, part.undefined, part.lone_sites):
        counted[1] = 0
    report, found = judge(evaluation(part, suppressed=["dice/liver"]))
    assert report.suppressed == ("dice/liver",)
    assert found.stat("dice/liver").value is None
    assert found.stat("dice").n == 6


@pytest.mark.parametrize("name", ["counts", "undefined", "penalised", "lone_sites"])
def test_suppressed_metric_has_no_counts(name: str) -> None:
    part = sums()
    part.sums[1] = np.nan
    for counted in (part.counts, part.undefined, part.penalised, part.lone_sites):
        counted[1] = 0
    getattr(part, name)[1] = 1
    with pytest.raises(ContributionError, match="carries values"):
        judge(evaluation(part, suppressed=["dice/liver"]))


def test_health_may_withhold_small_counts() -> None:
    values = {
        "software": "0.1.0",
        "architecture": "0" * 64,
        "training_cases": 30,
        "validation_cases": None,
        "test_cases": None,
        "skipped": {},
    }
    answer = reply(Action.HEALTH, values=values, tensors={})
    assert check_health(answer, request=request(Action.HEALTH)).test_cases is None


def test_wholly_suppressed_evaluation_needs_no_arrays() -> None:
    hidden = replace(
        evaluation(suppressed=list(KEYS), cases=0),
        tensors={},
    )
    _, found = judge(hidden)
    assert found.sums.shape == (3, 1 + REPLICATES)
    assert not found.counts.any()
    with pytest.raises(ContributionError, match="arrays"):
        judge(replace(evaluation(), tensors={}))


def of_one_case(*, lone: int, num: int = 1) -> Reply:
    part = sums()
    part.counts[0], part.sums[0], part.undefined[0] = num, 0.5 * num, 0
    part.lone_sites[0] = lone
    return evaluation(part)


def of_no_case(*, lone: int) -> Reply:
    return of_one_case(lone=lone, num=0)


def test_one_case_is_one_subject() -> None:
    assert judge(of_one_case(lone=1))[1].stat("dice").n == 1


def spoil(name: str, index: tuple[int, ...], value: float) -> Reply:
    tensors = {key: array.copy() for key, array in evaluation().tensors.items()}
    tensors[name][index] = value
    return replace(evaluation(), tensors=tensors)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (spoil("sums", (0, 0), np.nan), "NaN"),
        (spoil("sums", (2, 3), np.inf), "NaN"),
        (spoil("sums", (2, 0), -1.0), "negative"),
        (spoil("counts", (0, 2), -1), "negative"),
        (spoil("counts", (1, 2), np.nan), "NaN"),
        (spoil("counts", (1, 2), np.inf), "NaN"),
        (spoil("counts", (0, 0), 5.5), "not whole"),
        (spoil("undefined", (0,), -1), "negative"),
        (spoil("counts", (0, 0), 9), "more cases than were judged"),
        (spoil("undefined", (0,), 3), "more cases than were judged"),
        (spoil("penalised", (0,), 7), "more cases than were judged"),
        (spoil("lone_sites", (0,), -1), "negative"),
        (spoil("lone_sites", (0,), 2), "do not fit"),
        (of_one_case(lone=0), "do not fit"),
        (of_no_case(lone=1), "do not fit"),
        (evaluation(subjects=5), "EvaluationReport"),
        (spoil("sums", (0, 0), 6.5), "above 1"),
        (spoil("counts", (2, 2), 0), "over no case"),
        (evaluation(keys=["dice", "hd95_mm", "dice/liver"]), "other metrics"),
        (evaluation(suppressed=["age"]), "suppresses"),
        (evaluation(suppressed=["dice"]), "carries values"),
        (evaluation(cases="8"), "EvaluationReport"),
        (
            replace(
                evaluation(),
                tensors={**evaluation().tensors, "sums": np.ones((3, 1 + REPLICATES), "f4")},
            ),
            "type float32",
        ),
        (
            replace(evaluation(), tensors={**evaluation().tensors, "undefined": np.zeros(2, "i8")}),
            "3 values",
        ),
        (
            replace(
                evaluation(),
                tensors={
                    **evaluation().tensors,
                    "sums": np.ones((3, 2)),
                    "counts": np.full((3, 2), 6.0),
                },
            ),
            "1 replicates instead of 5",
        ),
    ],
)
def test_bad_evaluation_is_refused(bad: Reply, words: str) -> None:
    with pytest.raises(ContributionError, match=words):
        judge(bad)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_arrays_round_trip(num_keys: int, replicates: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    part = MetricSums(
        keys=tuple(f"k{index}" for index in range(num_keys)),
        sums=rng.random((num_keys, 1 + replicates)),
        counts=9 * rng.random((num_keys, 1 + replicates)),
        undefined=rng.integers(0, 9, num_keys),
        penalised=rng.integers(0, 9, num_keys),
        lone_sites=rng.integers(0, 9, num_keys),
    )
    arrays, keys = to_arrays(part)
    found = from_arrays(arrays, keys=keys)
    assert found.keys == part.keys
    for name in ("sums", "counts", "undefined", "penalised", "lone_sites"):
        np.testing.assert_array_equal(getattr(found, name), getattr(part, name))
