"""Pretrained weights into a network, by hand: every tensor has its place in the report."""

from typing import Any

import numpy as np
import pytest

from fedvol.config.data import ClipZScore, ZScore
from fedvol.config.name_map import NameMap
from fedvol.federation.transfer import (
    TransferTerms,
    is_account_of,
    match_state,
    stem_for_channels,
    transfer_problems,
)
from fedvol.plan import (
    AdaptationRecord,
    TensorKind,
    TensorSpec,
    TransferReport,
    encoder_architecture,
)
from fedvol.types import State

Z_SCORE = ZScore(kind="z_score")


def spec(name: str, shape: tuple[int, ...], kind: TensorKind) -> TensorSpec:
    return TensorSpec(name=name, shape=shape, dtype="float32", kind=kind)


NETWORK = (
    spec("stem.weight", (2, 1, 1, 1, 1), TensorKind.STEM),
    spec("stem.bias", (2,), TensorKind.STEM),
    spec("encoder.weight", (10, 4), TensorKind.ENCODER),
    spec("encoder.norm", (6,), TensorKind.ENCODER),
    spec("decoder.weight", (5,), TensorKind.DECODER),
    spec("head.weight", (3,), TensorKind.HEAD),
)


def record(**keys: Any) -> AdaptationRecord:
    values: dict[str, Any] = {
        "architecture": encoder_architecture(NETWORK),
        "task": "volume_fusion",
        "transfers": "whole",
        "channels": ("CT",),
        "patch": (16, 16, 8),
        "spacing_mm": (1.0, 1.0, 2.0),
        "normalisation": Z_SCORE,
    }
    return AdaptationRecord(**values | keys)


def state(**changes: Any) -> dict[str, np.ndarray]:
    held = {
        one.name: np.full(one.shape, index + 1.0, "float32") for index, one in enumerate(NETWORK)
    }
    held |= {name.replace("_", "."): array for name, array in changes.items()}
    return {name: array for name, array in held.items() if array is not None}


def terms(**keys: Any) -> TransferTerms:
    return TransferTerms(**{"channels": ("CT",), "normalisation": Z_SCORE} | keys)


def matched(given: State, kept: AdaptationRecord, **keys: Any) -> tuple[State, TransferReport]:
    return match_state(NETWORK, given, kept, terms=terms(**keys))


def reasons(report: TransferReport, kept: AdaptationRecord, **keys: Any) -> list[str]:
    problems = transfer_problems(NETWORK, kept, report, terms=terms(**keys))
    return [f"{problem.where}: {problem.what}" for problem in problems]


def test_the_encoder_alone_is_loaded() -> None:
    taken, report = matched(state(), record())
    assert list(taken) == ["stem.weight", "stem.bias", "encoder.weight", "encoder.norm"]
    assert (taken["encoder.weight"] == 3).all()
    assert report.loaded == {
        "stem.weight": 2, "stem.bias": 2, "encoder.weight": 40, "encoder.norm": 6,
    }  # fmt: skip
    assert report.left_out == {"decoder.weight": 5, "head.weight": 3}
    assert (report.missing, report.reshaped, report.unexpected) == ({}, {}, {})
    assert report.shares == {"encoder": 1}
    assert reasons(report, record()) == []


def test_whole_leaves_the_head() -> None:
    taken, report = matched(state(), record(), parts="whole")
    assert set(taken) == {one.name for one in NETWORK} - {"head.weight"}
    assert report.left_out == {"head.weight": 3}
    assert report.shares == {"encoder": 1, "decoder": 1}


def test_missing_reshaped_and_unexpected_are_told_with_their_values() -> None:
    given = state(encoder_norm=None, encoder_weight=np.zeros((10, 5), "float32"))
    given["stranger"] = np.zeros((7, 2), "float32")
    taken, report = matched(given, record())
    assert report.missing == {"encoder.norm": 6}
    assert report.reshaped == {"encoder.weight": 40}
    assert report.unexpected == {"stranger": 14}
    assert set(taken) == {"stem.weight", "stem.bias"}
    assert report.shares == {"encoder": 4 / 50}
    (told,) = reasons(report, record())
    assert told.startswith("encoder: 8.0 % of its values were found, less than 95 %")
    assert told.endswith("encoder.weight, encoder.norm")


@pytest.mark.parametrize(("least_share", "is_refused"), [(0.88, False), (0.8801, True)])
def test_the_least_share_is_of_the_values(least_share: float, is_refused: bool) -> None:
    _, report = matched(state(encoder_norm=None), record())
    assert report.shares == {"encoder": 44 / 50}
    assert bool(reasons(report, record(), least_share=least_share)) == is_refused


def test_a_decoder_that_is_missing_counts_where_it_was_asked_for() -> None:
    given = state(decoder_weight=None)
    assert reasons(matched(given, record())[1], record()) == []
    _, report = matched(given, record(), parts="whole")
    (told,) = reasons(report, record(), parts="whole")
    assert told.startswith("decoder: 0.0 %")


def test_names_follow_prefix_and_patterns() -> None:
    given = {f"body.{name}": array for name, array in state().items()} | {"head.bias": np.zeros(4)}
    _, report = matched(given, record(names=NameMap(prefix="body.")))
    assert len(report.loaded) == 4
    assert report.unexpected == {"head.bias": 4}
    names = NameMap(names={"{part}.{leaf}": "{part}.{leaf}"})
    assert len(matched(state(), record(names=names))[1].loaded) == 4
    names = NameMap(names={"a.{leaf}": "encoder.{leaf}"})
    _, report = matched(state(), record(names=names))
    assert report.loaded == {}
    assert len(report.unexpected) == 6


def test_other_types_are_brought_to_the_networks() -> None:
    taken, report = matched(state(encoder_norm=np.full(6, 0.5, "float16")), record())
    assert taken["encoder.norm"].dtype == np.float32
    assert (taken["encoder.norm"] == 0.5).all()
    assert report.shares == {"encoder": 1}


# --- channels ---------------------------------------------------------------------------------


def test_other_channels_are_refused_unless_told_how() -> None:
    kept = record(channels=("MR",))
    _, report = matched(state(), kept)
    (told,) = reasons(report, kept)
    assert told == "channels: the channels were MR, and now are CT"
    for new_stem in ("random", "copy"):
        _, report = matched(state(), kept, new_stem=new_stem)
        assert reasons(report, kept, new_stem=new_stem) == []


def test_a_random_stem_is_left_as_it_is_and_counts_for_nothing() -> None:
    two = tuple(
        one.model_copy(update={"shape": (2, 4, 1, 1, 1)}) if one.name == "stem.weight" else one
        for one in NETWORK
    )
    taken, report = match_state(
        two, state(), record(), terms=terms(channels=("a", "b", "c", "d"), new_stem="random")
    )
    assert set(taken) == {"encoder.weight", "encoder.norm"}
    assert report.left_out == {
        "stem.weight": 8, "stem.bias": 2, "decoder.weight": 5, "head.weight": 3,
    }  # fmt: skip
    assert report.shares == {"encoder": 1}
    assert encoder_architecture(two) == record().architecture


def test_a_copied_stem_is_the_old_one_for_every_channel() -> None:
    two = (spec("stem.weight", (2, 4, 1, 1, 1), TensorKind.STEM), *NETWORK[1:])
    given = state(stem_weight=np.array([8.0, -4.0], "float32").reshape(2, 1, 1, 1, 1))
    taken, report = match_state(
        two, given, record(), terms=terms(channels=("a", "b", "c", "CT"), new_stem="copy")
    )
    assert taken["stem.weight"].reshape(2, 4).tolist() == [[2.0] * 4, [-1.0] * 4]
    assert taken["stem.bias"].tolist() == [2, 2]
    assert report.adapted == {"stem.weight": 8}
    assert "stem.weight" not in {**report.loaded, **report.reshaped}
    assert report.shares == {"encoder": 1}


def test_channels_keep_their_weights_by_name() -> None:
    weight = np.array([[1.0, 3.0]]).reshape(1, 2, 1)
    both = {"before": ("T1", "T2")}

    def row(*now: str) -> list[float]:
        return stem_for_channels(weight, **both, now=now).reshape(-1).tolist()

    assert row("T1", "T2") == [1, 3]
    assert row("T2", "T1") == [3, 1]
    assert row("T2", "CT") == [3, 2]
    assert row("T2") == [6]
    assert row("T1", "T2", "CT", "PET") == [0.5, 1.5, 1, 1]


# --- what is refused --------------------------------------------------------------------------


def test_voxels_of_another_size_are_refused_unless_any_are_allowed() -> None:
    _, report = matched(state(), record())
    for spacing_mm in ((1.0, 1.0, 3.2), (0.6, 1.0, 2.0)):
        (told,) = reasons(report, record(), spacing_mm=spacing_mm)
        assert told.startswith("spacing_mm: voxels were 1 x 1 x 2 mm, and now are")
    for allowed in ((1.0, 1.0, 3.0), (0.7, 1.2, 2.0), None):
        assert reasons(report, record(), spacing_mm=allowed) == []


def test_another_normalisation_is_refused_unless_any_is_allowed() -> None:
    _, report = matched(state(), record())
    other = ZScore(kind="z_score", foreground_only=True)
    (told,) = reasons(report, record(), normalisation=other)
    assert told.startswith("normalisation: intensities were normalised by kind='z_score'")
    clip = ClipZScore(kind="clip_z_score", clip_hu=(-1000, 1000), mean_hu=0, deviation_hu=1)
    assert len(reasons(report, record(), normalisation=clip)) == 1
    assert reasons(report, record(), normalisation=None) == []


def test_another_architecture_is_refused_though_every_tensor_is_there() -> None:
    kept = record(architecture="0" * 64)
    (told,) = reasons(matched(state(), kept)[1], kept)
    assert told == "architecture: the weights are those of another encoder"


def test_the_decoder_of_an_encoder_task_is_refused() -> None:
    kept = record(transfers="encoder")
    _, report = matched(state(), kept, parts="whole")
    assert reasons(report, kept, parts="whole") == ["transfers: the encoder alone was trained"]


def test_every_reason_is_told_at_once() -> None:
    kept = record(architecture="0" * 64, channels=("MR",), transfers="encoder")
    _, report = matched(state(encoder_weight=None), kept, parts="whole")
    found = reasons(
        report, kept, parts="whole", normalisation=ZScore(kind="z_score", foreground_only=True)
    )
    assert [told.partition(":")[0] for told in found] == [
        "architecture", "transfers", "normalisation", "channels", "encoder",
    ]  # fmt: skip


# --- what stays, and what stands still ---------------------------------------------------------


def test_what_stays_at_the_sites_is_left_out_and_counts_for_nothing() -> None:
    stays = frozenset({"encoder.norm"})
    taken, report = matched(state(), record(), stays=stays)
    assert set(taken) == {"stem.weight", "stem.bias", "encoder.weight"}
    assert report.left_out["encoder.norm"] == 6
    assert report.shares == {"encoder": 1}
    assert is_account_of(NETWORK, record(), report, terms=terms(stays=stays))
    assert not is_account_of(NETWORK, record(), report, terms=terms())


ENCODER = frozenset({TensorKind.STEM, TensorKind.ENCODER})


@pytest.mark.parametrize(
    ("given", "keys", "untrained"),
    [
        (state(), {}, ""),
        (state(encoder_norm=None), {"least_share": 0.5}, "encoder.norm"),
        (state(), {"stays": frozenset({"encoder.norm"})}, "encoder.norm"),
        (state(), {"channels": ("MR",), "new_stem": "random"}, "stem.weight, stem.bias"),
        (state(), {"channels": ("MR",), "new_stem": "copy"}, ""),
        (state(), {"still": ENCODER | {TensorKind.DECODER}}, "decoder.weight"),
        (state(), {"still": ENCODER | {TensorKind.DECODER}, "parts": "whole"}, ""),
    ],
)
def test_what_stands_still_must_have_been_trained(
    given: State, keys: dict[str, Any], untrained: str
) -> None:
    keys = {"still": ENCODER, **keys}
    told = reasons(matched(given, record(), **keys)[1], record(), **keys)
    assert told == (
        [f"frozen: what stands still was not all taken over: {untrained}"] if untrained else []
    )


@pytest.mark.parametrize(
    "change",
    [
        {"loaded": {}},
        {"loaded": {"stem.weight": 2, "stem.bias": 2, "encoder.weight": 40, "encoder.norm": 7}},
        {"missing": {"encoder.norm": 6}},
        {"left_out": {"stranger": 1}},
        {"adapted": {"head.weight": 3}},
        {"shares": {"encoder": 0.9}},
    ],
)
def test_an_account_that_cannot_be_is_none(change: dict[str, Any]) -> None:
    _, report = matched(state(), record())
    assert is_account_of(NETWORK, record(), report, terms=terms())
    assert not is_account_of(NETWORK, record(), report.model_copy(update=change), terms=terms())
