"""What people are told of a plan: written, left to its default, or planned, and why."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from case_facts import OPEN_STUDY, volumes

from fedvol.cli.summary import settings_text
from fedvol.config import OpenStudy, close_study
from fedvol.config.loading import parse_open_study
from fedvol.config.open_study import is_planned
from fedvol.config.places import kinds, plain_type
from fedvol.plan import SETTINGS, Setting, plan_study, settings_of

NETWORK = 'network = { kind = "unet" }'
CUBES = volumes((10, (64, 64, 64), (1.0, 1.0, 1.0)))


def told(network: str, more: str = "") -> dict[str, Setting]:
    text = OPEN_STUDY.replace(NETWORK, f"network = {{ {network} }}\n{more}")
    opened = parse_open_study(text, where="study.toml")
    if not opened.open_keys:
        closed, record = close_study(opened, {}, where="study.toml"), None
    else:
        closed, record = plan_study(opened, CUBES)
    return {one.key: one for one in settings_of(opened, closed, record)}


def origins(settings: dict[str, Setting]) -> dict[str, str]:
    return {key: one.origin for key, one in settings.items()}


FIXED = """
preprocessing = { spacing_mm = [1, 1, 1], normalisation = { kind = "z_score" } }
patches = { size = [64, 64, 64], batch_size = 2 }
"""


def test_three_origins_are_told_apart() -> None:
    settings = told(
        'kind = "unet", features = [4, 8, 8], kernels = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]'
    )
    assert origins(settings) == {
        "preprocessing.spacing_mm": "planned",
        "preprocessing.normalisation": "planned",
        "patches.size": "planned",
        "network.features": "study",
        "network.strides": "default",
        "network.kernels": "study",
        "patches.batch_size": "planned",
    }
    assert settings["network.features"].reason == "written in the study file"
    assert settings["network.strides"].value == [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    assert settings["network.strides"].reason == "left to its default: 2 from the second stage on"
    assert "median voxel edge" in settings["preprocessing.spacing_mm"].reason


def test_nothing_is_a_default_that_was_planned() -> None:
    assert set(origins(told('kind = "resenc_unet"')).values()) == {"planned"}


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ('kind = "resenc_preset", size = "S"', {}),
        ('kind = "segresnet"', {"features": 32, "blocks_per_stage": [1, 2, 2, 4]}),
        ('kind = "segresnet", features = 32', {"blocks_per_stage": [1, 2, 2, 4]}),
        (
            'kind = "dynunet", features = [8, 8, 8], strides = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]',
            {"kernels": [[3, 3, 3]] * 3},
        ),
        ('kind = "residual_unet", features = [8, 8, 8]', {"strides": [[2, 2, 2]] * 2}),
        ('kind = "attention_unet", features = [8, 8]', {"strides": [[2, 2, 2]]}),
    ],
)  # fmt: skip
def test_a_default_is_told_with_the_value_it_comes_to(
    network: str, expected: dict[str, Any]
) -> None:
    settings = told(network, FIXED)
    assert "planned" not in origins(settings).values()
    found = {
        key.removeprefix("network."): one.value
        for key, one in settings.items()
        if one.origin == "default"
    }
    assert found == expected
    assert settings["patches.batch_size"].origin == "study"


def test_the_page_prints_them_as_they_are() -> None:
    page = (Path(__file__).parents[3] / "docs" / "planning.md").read_text(encoding="utf-8")
    patch = FIXED.replace("[64, 64, 64]", "[32, 48, 32]")
    settings = told('kind = "unet", features = [16, 32, 64]', patch)
    lines = settings_text([*settings.values()]).splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("patches.size"))
    assert "```\n" + "\n".join(lines[first : first + 8]) + "\n```" in page


def open_keys() -> Iterator[str]:
    for section, field in OpenStudy.model_fields.items():
        annotation = plain_type(field.annotation)
        for model in kinds(annotation).values() or [annotation]:
            for name, one in getattr(model, "model_fields", {}).items():
                if is_planned(one.metadata):
                    yield f"{section}.{name}"


def test_every_key_that_may_be_left_open_is_told() -> None:
    assert set(open_keys()) == set(SETTINGS)
