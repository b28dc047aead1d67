"""The record of pretrained weights: its place in a file, and what makes an architecture."""

import json

import pytest
from pydantic import ValidationError

from fedvol.config.data import ZScore
from fedvol.config.name_map import NameMap
from fedvol.errors import TransferError
from fedvol.plan import AdaptationRecord, TensorKind, TensorSpec, encoder_architecture
from fedvol.types import Digest

RECORD = AdaptationRecord(
    architecture=Digest("a" * 64),
    task="volume_fusion",
    transfers="whole",
    names=NameMap(prefix="body.", names={"a.{x}": "b.{x}"}),
    channels=("T1", "T2"),
    patch=(128, 128, 64),
    spacing_mm=(1.0, 1.0, 2.5),
    normalisation=ZScore(kind="z_score"),
)


def test_there_and_back() -> None:
    words = RECORD.metadata()
    assert list(words) == ["adaptation"]
    assert json.loads(words["adaptation"])["task"] == "volume_fusion"
    assert AdaptationRecord.from_metadata(words | {"other": "x"}, where="w") == RECORD


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({}, "does not say what its weights were trained on"),
        ({"adaptation": "{"}, "cannot be read, at the whole"),
        ({"adaptation": RECORD.metadata()["adaptation"].replace("whole", "half")}, "at transfers"),
        ({"adaptation": '{"version":2,' + RECORD.metadata()["adaptation"][13:]}, "at version"),
    ],
)
def test_what_is_no_record_is_refused(words: dict[str, str], reason: str) -> None:
    with pytest.raises(TransferError, match=reason):
        AdaptationRecord.from_metadata(words, where="weights.safetensors")


def test_it_is_frozen() -> None:
    with pytest.raises(ValidationError):
        RECORD.task = "other"


def spec(
    name: str, shape: tuple[int, ...] = (4, 2), kind: TensorKind = TensorKind.ENCODER
) -> TensorSpec:
    return TensorSpec(name=name, shape=shape, dtype="float32", kind=kind)


def test_an_architecture_is_the_encoders_whatever_channels_and_classes() -> None:
    stem = spec("stem", (4, 1, 3), TensorKind.STEM)
    base = encoder_architecture([stem, spec("a")])
    assert base == encoder_architecture(
        [spec("stem", (4, 7, 3), TensorKind.STEM), spec("a"), spec("h", (9,), TensorKind.HEAD)]
    )
    others = [
        [stem, spec("b")],
        [stem, spec("a", (4, 3))],
        [stem],
        [stem, spec("a"), spec("b")],
        [spec("stem", (5, 1, 3), TensorKind.STEM), spec("a")],
        [spec("stem", (4, 1, 5), TensorKind.STEM), spec("a")],
        [stem, spec("a").model_copy(update={"dtype": "float64"})],
    ]
    assert base not in {encoder_architecture(other) for other in others}
