"""U-Nets: published sizes, shapes, gradients, seeded weights."""

import re
from pathlib import Path

import pytest
import torch

from fedvol.config import load_study
from fedvol.config.network import Network, ResidualEncoderUNet, UNet
from fedvol.config.network_checks import network_alone
from fedvol.errors import NetworkConfigError
from fedvol.models import build_network, initial_network, to_arrays

DEMO = Path(__file__).resolve().parents[3] / "examples" / "demo.toml"
TINY: tuple[Network, ...] = (
    UNet(kind="unet", features=(4, 6, 8)),
    UNet(kind="unet", features=(4, 6), convs_per_stage=1, convs_per_decoder_stage=1),
    UNet(kind="unet", features=(4, 6, 8), norm="group"),
    UNet(kind="unet", features=(4, 6, 8), norm="batch", deep_supervision=False),
    UNet(kind="unet", features=(4, 6, 8), norm="none"),
    ResidualEncoderUNet(kind="resenc_unet", features=(4, 6, 6), blocks_per_stage=(1, 2, 1)),
    ResidualEncoderUNet(
        kind="resenc_unet",
        features=(4, 6, 8),
        blocks_per_stage=(1, 1, 2),
        strides=((1, 1, 1), (2, 2, 1), (1, 2, 2)),
        kernels=((3, 3, 1), (3, 3, 3), (1, 3, 3)),
        norm="batch",
    ),
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", TINY, ids=repr)
def test_every_parameter_gets_a_gradient(config: Network) -> None:
    net = build_network(config, in_channels=2, num_classes=3)
    net.train()
    sum(output.square().sum() for output in net(noise(2, 2, 8, 8, 8))).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        # A bias before a norm layer is taken out again: its gradient is rounding only.
        if not name.endswith("conv.bias"):
            assert parameter.grad.abs().max() > 0, name


def test_outputs_are_finest_first_and_coarse_only_in_training() -> None:
    config = UNet(kind="unet", features=(4, 6, 8), strides=((1, 1, 1), (2, 2, 1), (2, 1, 2)))
    net = build_network(config, in_channels=1, num_classes=5)
    x = noise(1, 1, 8, 12, 8)
    net.train()
    assert [tuple(y.shape) for y in net(x)] == [(1, 5, 8, 12, 8), (1, 5, 4, 6, 8)]
    net.eval()
    assert [tuple(y.shape) for y in net(x)] == [(1, 5, 8, 12, 8)]


def test_without_deep_supervision_there_is_one_head() -> None:
    config = UNet(kind="unet", features=(4, 6, 8), deep_supervision=False)
    net = build_network(config, in_channels=1, num_classes=2)
    assert len(net.heads) == 1
    assert len(net.train()(noise(1, 1, 8, 8, 8))) == 1


@pytest.mark.parametrize("config", TINY, ids=repr)
def test_layout_changes_speed_only(config: Network) -> None:
    net = build_network(config, in_channels=1, num_classes=2).eval()
    x = noise(2, 1, 8, 8, 8)
    plain = net(x)[0]
    net.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(net(x.to(memory_format=torch.channels_last_3d))[0], plain)


def test_grid_that_cannot_be_halved_is_refused() -> None:
    net = build_network(UNet(kind="unet", features=(4, 6, 8)), in_channels=1, num_classes=2)
    with pytest.raises(NetworkConfigError, match=r"\(8, 10, 8\) voxels"):
        net(noise(1, 1, 8, 10, 8))


@pytest.mark.parametrize(
    "config",
    [
        UNet(kind="unet", features=(4, 6, 8), strides=((1, 1, 1), (2, 2, 2))),
        UNet(kind="unet", features=(4, 6), strides=((2, 1, 1), (2, 2, 2))),
        UNet(kind="unet", features=(4, 6), kernels=((3, 3, 3), (3, 2, 3))),
        UNet(kind="unet", features=(4, 6, 8), kernels=((3, 3, 3), (3, 3, 3))),
        ResidualEncoderUNet(kind="resenc_unet", features=(4, 6), blocks_per_stage=(1, 1, 1)),
    ],
    ids=repr,
)
def test_network_that_cannot_be_is_refused_in_the_words_of_the_study_check(config: Network) -> None:
    problem = next(network_alone(config))
    with pytest.raises(NetworkConfigError, match=re.escape(problem.what)):
        build_network(config, in_channels=1, num_classes=2)


@pytest.mark.parametrize("config", TINY, ids=repr)
def test_weights_come_from_the_seed_alone(config: Network) -> None:
    before = torch.get_rng_state()
    first = to_arrays(build_network(config, in_channels=1, num_classes=2, seed=3))
    torch.rand(5)  # moves the global state
    moved = torch.get_rng_state()
    second = to_arrays(build_network(config, in_channels=1, num_classes=2, seed=3))
    other = to_arrays(build_network(config, in_channels=1, num_classes=2, seed=4))
    assert torch.equal(torch.get_rng_state(), moved)
    assert not torch.equal(before, moved)
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name
    assert any(array.tobytes() != other[name].tobytes() for name, array in first.items())


def test_initial_weights_are_kaiming_normal_with_zero_bias() -> None:
    net = build_network(
        UNet(kind="unet", features=(32, 64), convs_per_stage=3), in_channels=1, num_classes=2
    )
    weight = net.encoder[1][1].conv.weight
    assert weight.std().item() == pytest.approx((2 / (1 + 1e-4) / (64 * 27)) ** 0.5, rel=0.02)
    assert net.encoder[1][1].conv.bias.abs().max() == 0
    assert (net.stem.norm.weight == 1).all()


def test_initial_network_is_the_studys() -> None:
    study = load_study(DEMO)
    net = initial_network(study)
    assert net.stem.conv.in_channels == len(study.data.channels)
    assert net.heads[0].out_channels == 1 + len(study.data.labels)
    again = to_arrays(initial_network(study))
    other = to_arrays(initial_network(study.model_copy(update={"seed": study.seed + 1})))
    weights = to_arrays(net)
    assert all(array.tobytes() == again[name].tobytes() for name, array in weights.items())
    assert weights["stem.conv.weight"].tobytes() != other["stem.conv.weight"].tobytes()
