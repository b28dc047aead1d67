"""Numbers of parameters: the published ones."""

import pytest
import torch
from every_network import network, network_shape
from torch import nn

from fedvol.models.norms import InstanceNorm

RESENC_L = {"kind": "resenc_preset", "size": "L"}
UNETR_UNUSED = 12 * 2 * 768
"""Norms of a cross-attention that MONAI's UNETR does not have; ours has no such norms."""


def num_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def num_affine(net: nn.Module) -> int:
    """Weights and biases of norms that MONAI has as instance norms without them."""
    return sum(
        num_parameters(module)
        for name, module in net.named_modules()
        if type(module) is InstanceNorm or name.endswith("merge.adn.N")
    )


@pytest.mark.parametrize(
    ("in_channels", "num_classes", "size"),
    [(1, 1, 102_348_965), (1, 2, 102_349_770), (1, 5, 102_352_185), (4, 4, 102_353_972)],
)
def test_residual_encoder_l_has_the_published_size(
    in_channels: int, num_classes: int, size: int
) -> None:
    net = network_shape(network(**RESENC_L), in_channels=in_channels, num_classes=num_classes)
    assert num_parameters(net) == size


@pytest.mark.parametrize(
    ("in_channels", "stem", "encoder"), [(1, 960, 90_296_576), (4, 3_552, 90_299_168)]
)
def test_encoder_and_stem_of_residual_encoder_l(in_channels: int, stem: int, encoder: int) -> None:
    net = network_shape(network(**RESENC_L), in_channels=in_channels, num_classes=2)
    assert num_parameters(net.stem) == stem
    assert num_parameters(net.stem) + num_parameters(net.encoder) == encoder


@pytest.mark.parametrize(("size", "millions"), [("S", 14.1), ("M", 56.5), ("L", 102.3)])
def test_sizes_that_the_docs_name(size: str, millions: float) -> None:
    config = network(kind="resenc_preset", size=size)
    net = network_shape(config, in_channels=1, num_classes=2)
    assert num_parameters(net) / 1e6 == pytest.approx(millions, abs=0.05)


def test_plain_unet_has_nnunets_size() -> None:
    config = network(kind="unet", features=(32, 64, 128, 256, 320, 320))
    net = network_shape(config, in_channels=1, num_classes=2)
    assert num_parameters(net) == 31_195_594


@pytest.mark.parametrize(("num_classes", "size"), [(2, 44_199_386), (5, 44_200_766)])
def test_pct_net_has_the_published_size(num_classes: int, size: int) -> None:
    net = network_shape(network(kind="pct_net"), in_channels=1, num_classes=num_classes)
    assert num_parameters(net) == size


@pytest.mark.parametrize(
    ("depth", "bias_downsample", "size"),
    [
        (18, False, 33_673_000),
        (34, False, 63_982_632),
        (50, False, 48_204_072),
        (18, True, 33_673_896),
        (34, True, 63_983_528),
        (50, True, 48_207_912),
    ],
)
def test_resnet3d_has_the_published_size(depth: int, bias_downsample: bool, size: int) -> None:
    config = network(kind="resnet3d", depth=depth, bias_downsample=bias_downsample)
    net = network_shape(config, in_channels=1, num_classes=1000)
    assert num_parameters(net) == size
    assert isinstance(net.net, nn.Module)
    trunk = {18: 33_160_000, 34: 63_469_632, 50: 46_155_072}[depth]
    if not bias_downsample:
        assert size - num_parameters(net.net.fc) == trunk


@pytest.mark.parametrize(
    ("keys", "num_classes", "millions"),
    [
        ({"kind": "vnet"}, 2, 45.598),
        ({"kind": "residual_unet"}, 2, 4.806),
        ({"kind": "dynunet", "deep_supervision": False}, 2, 31.419),
        ({"kind": "segresnet", "features": 8}, 2, 1.176),
        ({"kind": "attention_unet"}, 2, 5.909),
        ({"kind": "basic_unet"}, 2, 5.749),
        ({"kind": "highresnet"}, 160, 0.822),
        ({"kind": "densenet3d"}, 2, 11.245),
        ({"kind": "swin_unetr"}, 14, 62.187),
        ({"kind": "swin_unetr", "version": "v2"}, 14, 72.763),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_monais_networks_have_their_size(
    keys: dict[str, object], num_classes: int, millions: float
) -> None:
    net = network_shape(network(**keys), in_channels=1, num_classes=num_classes)
    ours = num_parameters(net)
    if keys["kind"] in ("residual_unet", "attention_unet", "swin_unetr"):
        ours -= num_affine(net)
    assert round(ours / 1e6, 3) == millions


def test_unetr_has_its_size() -> None:
    net = network_shape(network(kind="unetr"), in_channels=1, num_classes=14, patch=(96, 96, 96))
    whole = num_parameters(net) - num_affine(net) + UNETR_UNUSED
    assert round(whole / 1e6, 3) == 92.802


def test_shapes_take_no_memory() -> None:
    net = network_shape(network(kind="swin_unetr"), in_channels=1, num_classes=2)
    assert {tensor.device for tensor in net.state_dict().values()} == {torch.device("meta")}
