"""The table of networks in docs/networks.md tells the truth."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from every_network import network, network_shape

from fedvol.config.monai_networks import MonaiNetwork
from fedvol.config.network import PCTNet, ResidualEncoderPreset, ResidualEncoderUNet, UNet
from fedvol.config.patch_rule import patch_rule

PAGE = (Path(__file__).parents[3] / "docs" / "networks.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)`([^|]*) \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)
TABLE = [row for row in ROW.findall(PAGE) if re.match(r"\d|by its", row[2])]
COUNTED = [row for row in TABLE if row[2][0].isdigit()]


def keys_of(kind: str, words: str) -> dict[str, Any]:
    """The keys that a row names, with nnU-Net's features where it needs some."""
    keys: dict[str, Any] = {"kind": kind, **dict(re.findall(r"(\w+) `(\w+)`", words))}
    if kind == "unet":
        keys["features"] = (32, 64, 128, 256, 320, 320)
    return keys


def test_every_kind_has_a_row() -> None:
    classes = (UNet, ResidualEncoderUNet, ResidualEncoderPreset, PCTNet, *get_args(MonaiNetwork))
    kinds = {get_args(one.model_fields["kind"].annotation)[0] for one in classes}
    assert kinds == {row[0] for row in TABLE}


@pytest.mark.parametrize("row", COUNTED, ids=lambda row: f"{row[0]}{row[1]}")
def test_parameters_and_patch_are_as_the_page_says(row: tuple[str, str, str, str]) -> None:
    kind, words, millions, patch = row
    config = network(**keys_of(kind, words))
    net = network_shape(config, in_channels=1, num_classes=2, patch=(96, 96, 96))
    size = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert f"{size:.1f}" == millions.split()[0]
    rule = patch_rule(config)
    number = re.search(r"\d+", patch)
    stated = int(number.group()) if number else 1
    assert stated == (rule.least if patch.startswith("at least") else rule.multiple_of[0])
