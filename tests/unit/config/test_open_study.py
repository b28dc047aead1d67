"""What a study may leave open, and that closing it is writing the values."""

import pytest
from case_facts import OPEN_STUDY

from fedvol.config import close_study
from fedvol.config.loading import parse_open_study, parse_study
from fedvol.config.open_study import is_ct
from fedvol.errors import StudyError
from fedvol.types import Json

MEMORY = "planning = { memory_gib = 4 }"
NETWORK = 'network = { kind = "unet" }'
EVERYTHING: dict[str, Json] = {
    "preprocessing.spacing_mm": [1.0, 1.0, 2.0],
    "preprocessing.normalisation": {"kind": "z_score"},
    "patches.size": [32, 32, 16],
    "network.features": [8, 16],
    "network.strides": [[1, 1, 1], [2, 2, 1]],
    "network.kernels": [[3, 3, 1], [3, 3, 3]],
    "patches.batch_size": 3,
}


def opened(text: str = OPEN_STUDY):
    return parse_open_study(text, where="study.toml")


def test_closing_is_writing_the_values() -> None:
    written = OPEN_STUDY.replace(
        NETWORK,
        """
preprocessing = { spacing_mm = [1.0, 1.0, 2.0], normalisation = { kind = "z_score" } }
patches = { size = [32, 32, 16], batch_size = 3 }

[network]
kind = "unet"
features = [8, 16]
strides = [[1, 1, 1], [2, 2, 1]]
kernels = [[3, 3, 1], [3, 3, 3]]
""",
    ).replace('task = { kind = "segmentation" }', "")
    written = 'task = { kind = "segmentation" }\n' + written
    assert opened().open_keys == tuple(EVERYTHING)
    assert close_study(opened(), EVERYTHING, where="x") == parse_study(written, where="x")


@pytest.mark.parametrize(
    ("network", "keys"),
    [
        (NETWORK, ("features", "strides", "kernels")),
        ('network = { kind = "unet", features = [8, 16] }', ()),
        ('network = { kind = "unet", kernels = [[3, 3, 3], [3, 3, 3]] }', ("features", "strides")),
        (
            'network = { kind = "resenc_unet" }',
            ("features", "strides", "kernels", "blocks_per_stage"),
        ),
        ('network = { kind = "resenc_unet", features = [8, 16] }', ("blocks_per_stage",)),
        ('network = { kind = "resenc_preset", size = "S" }', ()),
    ],
)
def test_what_of_a_network_is_open(network: str, keys: tuple[str, ...]) -> None:
    study = opened(OPEN_STUDY.replace(NETWORK, network))
    found = [key for key in study.open_keys if key.startswith("network.")]
    assert found == [f"network.{name}" for name in keys]


def test_where_nothing_is_planned_each_open_key_is_named() -> None:
    with pytest.raises(StudyError) as caught:
        parse_study(OPEN_STUDY, where="study.toml")
    assert [problem.where for problem in caught.value.problems] == list(EVERYTHING)


def test_values_must_be_those_of_the_open_keys() -> None:
    less = {key: value for key, value in EVERYTHING.items() if key != "patches.size"}
    with pytest.raises(ValueError, match="not the open keys"):
        close_study(opened(), less, where="x")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("patches.size", [33, 32, 16], "patches.size"),
        ("patches.batch_size", 0, "patches.batch_size"),
        ("network.strides", [[1, 1, 1]], "network.strides"),
    ],
)
def test_a_value_that_the_study_could_not_name_is_refused(
    key: str, value: Json, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        close_study(opened(), {**EVERYTHING, key: value}, where="x")


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ('network = { kind = "vnet" }', "patches.size"),
        (
            f"{NETWORK}\npatches = {{ size = [32, 32, 32], batch_size = 2 }}\n{MEMORY}",
            "planning.memory_gib",
        ),
        (f"{NETWORK}\nplanning = {{ memory_gib = 0 }}", "planning.memory_gib"),
        (f"{NETWORK}\nplanning = {{ memory = 4 }}", "planning.memory"),
    ],
)
def test_contradictions_of_an_open_study_are_told(new: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        opened(OPEN_STUDY.replace(NETWORK, new))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CT", True), ("ct", True), ("CT_venous", True), ("ct-late", True), ("CT.1", True),
        ("CTA", False), ("CBCT", False), ("T1", False), ("PET_CT", False), ("contrast", False),
    ],
)  # fmt: skip
def test_ct_by_name(name: str, expected: bool) -> None:
    assert is_ct(name) is expected
