"""Networks against the rest of a study: what is refused, and what is not."""

from typing import NamedTuple

import pytest
from every_network import EVERY
from pydantic import BaseModel

from fedvol.config.loading import parse_study
from fedvol.config.patch_rule import PatchRule, patch_rule
from fedvol.errors import StudyError

STUDY = """
version = 1
name = "x"
purpose = "A study for tests only."
data = {{ channels = {channels}, labels = {{ liver = 1 }}, split = {{ kind = "column" }} }}
patches = {{ size = {size}, batch_size = {batch} }}
network = {{ {network} }}
task = {{ kind = "segmentation" }}

[preprocessing]
spacing_mm = [1.0, 1.0, 1.0]
normalisation = {{ kind = "z_score" }}

[[stages]]
kind = "finetune"
rounds = 2
steps_per_round = 3
strategy = {{ kind = "{strategy}" }}
training = {{ optimiser = {{ kind = "adamw" }} }}
"""


class Refused(NamedTuple):
    network: str
    where: str
    reason: str
    size: str = "[64, 64, 64]"
    channels: str = '["CT"]'
    batch: int = 2


def text(
    network: str,
    *,
    size: str = "[64, 64, 64]",
    channels: str = '["CT"]',
    batch: int = 2,
    strategy: str = "fedavg",
) -> str:
    return STUDY.format(
        network=network, size=size, channels=channels, batch=batch, strategy=strategy
    )


def toml(section: BaseModel) -> str:
    """A section as an inline table's keys."""
    values = section.model_dump(mode="json", exclude_unset=True)
    shown = {key: str(value).replace("'", '"').lower() for key, value in values.items()}
    texts = {key: f'"{values[key]}"' for key in values if isinstance(values[key], str)}
    return ", ".join(f"{key} = {value}" for key, value in (shown | texts).items())


REFUSED = [
    Refused('kind = "resnet3d"', "network.kind", "gives classes of the whole volume"),
    Refused('kind = "densenet3d", depth = 169', "network.kind", "needs classes of each voxel"),
    Refused('kind = "densenet3d"', "patches.size[1]", "too few", size="[32, 16, 32]"),
    Refused('kind = "vnet"', "network.kind", "3 channels do not", channels='["a", "b", "c"]'),
    Refused('kind = "vnet"', "patches.size[2]", "Use 48 or 64.", size="[64, 64, 56]"),
    Refused('kind = "vnet"', "network.norm", "batches of one patch", batch=1),
    Refused('kind = "vnet", norm = "instance"', "patches.size", "single voxel", "[16, 16, 16]"),
    Refused('kind = "vnet", norm = "none"', "network.norm", "instance"),
    Refused('kind = "basic_unet"', "patches.size[0]", "divided by 16", size="[40, 64, 64]"),
    Refused('kind = "basic_unet", features = [8, 8, 8]', "network.features", "at least 6"),
    Refused('kind = "segresnet", features = 12', "network.features", "the 8 groups"),
    Refused('kind = "segresnet"', "patches.size[0]", "fewer network stages", size="[20, 64, 64]"),
    Refused(
        'kind = "residual_unet", features = [8, 16], strides = [[2, 2, 2], [2, 2, 2]]',
        "network.strides",
        "2 entries for 1 steps",
    ),
    Refused(
        'kind = "attention_unet", features = [8, 16], strides = [[4, 2, 1]]',
        "patches.size[0]",
        "divided by 4",
        size="[18, 16, 17]",
    ),
    Refused(
        'kind = "dynunet", features = [8, 8, 8], strides = [[1, 1, 1], [2, 2, 2], [4, 2, 2]]',
        "network.strides[2]",
        "above 2, which dynunet cannot take",
    ),
    Refused(
        'kind = "dynunet", features = [8, 8, 8], kernels = [[3, 3, 3], [3, 2, 3], [3, 3, 3]]',
        "network.kernels[1]",
        "even side",
    ),
    Refused('kind = "dynunet", features = [8, 8]', "network.features", "at least 3"),
    Refused('kind = "dynunet"', "patches.size[1]", "divided by 32", size="[64, 48, 64]"),
    Refused('kind = "unetr", hidden_size = 100', "network.hidden_size", "among 12 heads"),
    Refused('kind = "unetr"', "patches.size[0]", "Use 32 or 48.", size="[40, 32, 32]"),
    Refused('kind = "unetr"', "patches.size[0]", "Use 16.", size="[8, 32, 32]"),
    Refused('kind = "swin_unetr"', "patches.size[2]", "divided by 32", size="[64, 64, 48]"),
    Refused('kind = "swin_unetr"', "patches.size", "single voxel", size="[32, 32, 32]"),
    Refused('kind = "swin_unetr", features = 20', "network.features", "12, 24, 36, 48"),
    Refused('kind = "swin_unetr", version = "v3"', "network.version", "v1, v2"),
    Refused(
        'kind = "pct_net", num_heads = [4, 8, 24]', "network.num_heads[2]", "24 heads cannot share"
    ),
    Refused('kind = "pct_net"', "patches.size[2]", "divided by 8", size="[64, 64, 28]"),
    Refused('kind = "pct_net", flat_stages = 0', "patches.size[2]", "by 16", "[64, 64, 24]"),
    Refused('kind = "pct_net", flat_stages = 3', "network.flat_stages", "0, 1, 2"),
    Refused('kind = "pct_net", dropout = [0, 0, 0, 0, 1]', "network.dropout[4]", "not below 1"),
    Refused('kind = "pct_net"', "network.norm", "batches of one patch", batch=1),
    Refused('kind = "pct_net", norm = "instance"', "patches.size", "single", "[16, 16, 8]"),
    Refused('kind = "resenc_preset"', "network.size", "missing"),
    Refused('kind = "resenc_preset", size = "XL"', "network.size", "S, M, L"),
    Refused('kind = "resenc_preset", size = "S"', "patches.size[0]", "32", size="[48, 64, 64]"),
    Refused('kind = "resenc_preset", size = "M"', "patches.size", "single", size="[32, 32, 32]"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[f"{case.network}-{case.where}" for case in REFUSED])
def test_refused(case: Refused) -> None:
    given = text(case.network, size=case.size, channels=case.channels, batch=case.batch)
    with pytest.raises(StudyError) as caught:
        parse_study(given, where="x")
    (problem,) = (found for found in caught.value.problems if found.where == case.where)
    assert case.reason in str(problem)


@pytest.mark.parametrize("name", [name for name in EVERY if EVERY[name].is_segmentation])
def test_every_small_network_passes(name: str) -> None:
    small = EVERY[name]
    study = parse_study(text(toml(small.config), size=str(list(small.patch))), where="x")
    assert study.network == small.config


@pytest.mark.parametrize(
    "network",
    [
        'kind = "vnet"',
        'kind = "highresnet"',
        'kind = "unetr"',
        'kind = "pct_net"',
        'kind = "resenc_preset", size = "L"',
    ],
)
def test_defaults_make_a_study(network: str) -> None:
    parse_study(text(network), where="x")
    parse_study(text(network, strategy="fedbn"), where="x")


def test_transformers_keep_layer_norms_whatever_the_norm() -> None:
    parse_study(text('kind = "unetr", norm = "group"', strategy="fedbn"), where="x")


def test_fedbn_without_norms_is_refused() -> None:
    with pytest.raises(StudyError, match="fedbn"):
        parse_study(
            text('kind = "dynunet", norm = "none"', strategy="fedbn"),
            where="x",
        )


@pytest.mark.parametrize("kind", ["basic_unet", "swin_unetr"])
def test_a_network_that_cannot_be_compiled_is_refused(kind: str) -> None:
    compiled = text(f'kind = "{kind}"').replace('"adamw" }', '"adamw" }, compile = true')
    with pytest.raises(StudyError) as caught:
        parse_study(compiled, where="x")
    (problem,) = caught.value.problems
    assert problem.where == "stages[0].training.compile"
    assert f"{kind} cannot be compiled" in problem.what
    parse_study(compiled.replace(f'"{kind}"', '"highresnet"'), where="x")


@pytest.mark.parametrize(
    ("network", "multiple_of"),
    [
        ('kind = "unet", features = [8, 8], strides = [[1, 1, 1], [2, 4, 1]]', (2, 4, 1)),
        ('kind = "residual_unet", features = [8, 8], strides = [[1, 2, 4]]', (1, 2, 4)),
        ('kind = "attention_unet", features = [8, 8, 8]', (4, 4, 4)),
        ('kind = "segresnet"', (8, 8, 8)),
        ('kind = "resenc_preset", size = "S"', (32, 32, 32)),
        ('kind = "pct_net", flat_stages = 0', (16, 16, 16)),
        ('kind = "pct_net"', (16, 16, 8)),
        ('kind = "pct_net", flat_stages = 2', (16, 16, 4)),
        ('kind = "highresnet"', (1, 1, 1)),
    ],
)
def test_rule_of_a_network(network: str, multiple_of: tuple[int, int, int]) -> None:
    study = parse_study(text(network), where="x")
    assert patch_rule(study.network) == PatchRule(multiple_of=multiple_of, coarsest=multiple_of)
