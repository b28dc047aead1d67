"""How far an encoder's features of different patches lie apart, of every network and task."""

import math

import numpy as np
import pytest
import torch
from every_network import EVERY, network
from torch import nn

from fedvol.config.pretext import MaskedTokens, RotationPrediction, SparkMAE, VoCo
from fedvol.models import build_network
from fedvol.models.encoders import encoder_of, pooled, pooled_features
from fedvol.ssl.features import squared_distances, unit_features
from fedvol.ssl.mae_vit import mae_vit_network
from fedvol.ssl.rotation import rotation_network
from fedvol.ssl.s3d import s3d_network
from fedvol.ssl.voco import voco_network

UNET = network(kind="unet", features=(4, 6))
PATCH = (16, 16, 16)
LARGE = {"resenc_preset", "vnet", "swin_unetr", "swin_unetr_v2", "densenet3d", "resnet3d_50"}


def patches(shape: tuple[int, int, int], *, number: int = 3) -> torch.Tensor:
    return torch.randn((number, 1, *shape), generator=torch.Generator().manual_seed(1))


def test_equal_features_have_no_variance_and_opposite_ones_have_1() -> None:
    one = np.array([[0.6, 0.8]])
    assert squared_distances(np.repeat(one, 5, axis=0)).tolist() == [0.0] * 5
    assert squared_distances(np.concatenate((one, -one))).mean() == pytest.approx(1.0)


def test_it_is_the_square_of_the_deviation_of_simsiam() -> None:
    """Their deviation is 1/sqrt(d) of features that lie evenly around the sphere."""
    rng, width = np.random.default_rng(0), 32
    features = rng.normal(size=(20_000, width))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    deviation = features.std(axis=0).mean()
    assert deviation == pytest.approx(1 / math.sqrt(width), rel=0.01)
    assert squared_distances(features).mean() == pytest.approx(width * deviation**2, rel=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.full] if name in LARGE else [])
        for name, small in EVERY.items()
    ],
)
def test_every_network_has_features_that_differ(name: str) -> None:
    small = EVERY[name]
    net = build_network(small.config, in_channels=1, num_classes=2, patch=small.patch, seed=1)
    # Of two voxels an instance norm leaves the signs alone.
    patch = (32, 32, 32) if name == "basic_unet" else small.patch
    features = unit_features(net, patches(patch))
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0)
    assert squared_distances(features).mean() > 1e-5
    assert net.training  # as it was


def pretext_networks() -> dict[str, nn.Module]:
    unetr = EVERY["unetr"].config
    return {
        "rotation": rotation_network(
            RotationPrediction(kind="rotation"), UNET, in_channels=1, patch=PATCH, seed=3
        ),
        "voco": voco_network(
            VoCo(kind="voco", grid=(2, 2, 2), projector_width=8),
            UNET,
            in_channels=1,
            patch=PATCH,
            seed=3,
        ),
        "mae_vit": mae_vit_network(
            MaskedTokens(kind="mae_vit", decoder_layers=1, decoder_width=16),
            unetr,
            in_channels=1,
            patch=(32, 16, 16),
            seed=3,
        ),
        "s3d": s3d_network(SparkMAE(kind="s3d", block=4), UNET, in_channels=1, patch=PATCH, seed=3),
    }


@pytest.mark.parametrize("task", ["rotation", "voco", "mae_vit", "s3d"])
def test_networks_of_a_tasks_own_are_asked_for_their_encoder(task: str) -> None:
    net = pretext_networks()[task]
    features = unit_features(net, patches((32, 16, 16) if task == "mae_vit" else PATCH))
    assert squared_distances(features).mean() > 1e-3
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if not name.startswith(("body.", "stem.", "encoder.")):
                tensor.fill_(torch.nan)  # nothing after the encoder has a say
    np.testing.assert_array_equal(
        features, unit_features(net, patches((32, 16, 16) if task == "mae_vit" else PATCH))
    )


def test_a_sparse_encoder_sees_the_whole_patch() -> None:
    net = pretext_networks()["s3d"]
    plain = build_network(UNET, in_channels=1, num_classes=1, patch=PATCH, seed=5)
    own = net.state_dict()
    plain.load_state_dict({k: own[k] for k in plain.state_dict() if k in own}, strict=False)
    plain.eval()
    with torch.no_grad():
        wanted = pooled(encoder_of(plain)(patches(PATCH))[-1]).double().numpy()
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(unit_features(net, patches(PATCH)), wanted, rtol=0, atol=1e-5)


def test_a_dead_network_is_collapsed() -> None:
    net = build_network(UNET, in_channels=1, num_classes=2, patch=PATCH, seed=1)
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.zero_()
    features = unit_features(net, patches(PATCH))
    assert not features.any()
    assert squared_distances(features).mean() == 0.0


def test_another_network_is_refused() -> None:
    with pytest.raises(TypeError, match="Linear"):
        pooled_features(nn.Linear(1, 1), patches(PATCH))
