"""VoCo: crops and their overlap against counted voxels, the losses by hand, what learns."""

import math

import pytest
import torch
from every_network import EVERY
from structured import learn, structured_volumes
from torch import nn

from fedvol.config.network import Network, ResidualEncoderPreset, ResidualEncoderUNet, UNet
from fedvol.config.open_study import OpenUNet
from fedvol.config.pretext import VoCo
from fedvol.config.pretext_checks import voco_on
from fedvol.data.batch import UnlabelledBatch
from fedvol.errors import NetworkConfigError
from fedvol.models import build_network, to_arrays
from fedvol.models.state import describe, parts_of
from fedvol.plan import TensorKind
from fedvol.ssl.networks import BODY
from fedvol.ssl.voco import (
    VoCoTask,
    likeness,
    likeness_of_bases,
    overlaps,
    prediction_loss,
    voco_network,
)

TINY = UNet(kind="unet", features=(4, 6, 8))
CONFIG = VoCo(kind="voco", grid=(2, 3, 1), crops=5, projector_width=16)
PATCH = (16, 24, 8)
SIZE = (8, 8, 8)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Mean(nn.Module):
    """Projects a crop onto its coarse intensities."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool3d(x, 4).flatten(1)


def test_crops_lie_where_they_are_said_to() -> None:
    image = noise(2, 2, *PATCH)
    crops = VoCoTask(CONFIG).transform(UnlabelledBatch(image=image, seed=0))
    for sample in range(2):
        for base, (a, b) in enumerate((a, b) for a in range(2) for b in range(3)):
            cut = image[sample, :, 8 * a : 8 * a + 8, 8 * b : 8 * b + 8]
            assert torch.equal(crops.bases[sample, base], cut)
        for crop, (i, j, k) in enumerate(crops.starts[sample].tolist()):
            cut = image[sample, :, i : i + 8, j : j + 8, k : k + 8]
            assert torch.equal(crops.crops[sample, crop], cut)


def test_crops_reach_both_ends_and_come_from_the_seed() -> None:
    task = VoCoTask(VoCo(kind="voco", grid=(2, 2, 1), crops=16, projector_width=16))

    def starts(seed: int) -> torch.Tensor:
        batch = UnlabelledBatch(image=torch.zeros(40, 1, 4, 6, 3), seed=seed)
        return task.transform(batch).starts

    assert starts(0).amin((0, 1)).tolist() == [0, 0, 0]
    assert starts(0).amax((0, 1)).tolist() == [2, 3, 0]
    assert torch.equal(starts(1), starts(1))
    assert not torch.equal(starts(0), starts(1))
    assert not torch.equal(starts(0)[0], starts(0)[1])


def test_overlap_is_the_counted_share_of_voxels() -> None:
    grid, size = (2, 3, 2), (3, 2, 4)
    starts = torch.tensor([[[0, 0, 0], [3, 4, 4], [1, 3, 2], [2, 2, 3]]])
    overlap = overlaps(starts, grid=grid, size=size)
    owner = torch.arange(12).view(grid)
    for axis, length in enumerate(size):
        owner = owner.repeat_interleave(length, dim=axis)
    for crop, (i, j, k) in enumerate(starts[0].tolist()):
        inside = owner[i : i + 3, j : j + 2, k : k + 4]
        counted = inside.flatten().bincount(minlength=12) / inside.numel()
        torch.testing.assert_close(overlap[0, crop], counted)
    assert overlap[0, 0, 0] == 1
    assert overlap[0, 1, 11] == 1


def test_overlap_of_random_crops_sums_to_one() -> None:
    crops = VoCoTask(CONFIG).transform(UnlabelledBatch(image=noise(3, 1, *PATCH), seed=2))
    torch.testing.assert_close(crops.overlap.sum(2), torch.ones(3, 5))


def test_prediction_loss_by_hand() -> None:
    overlap = torch.tensor([[[0.75, 0.25, 0.0, 0.0]]])
    similarity = torch.tensor([[[0.5, 0.5, 0.5, 0.1]]])
    surprise = -math.log(0.75) * 0.75 - math.log(0.75) * 0.25
    apart = (0.25 + 0.01) / 2
    assert prediction_loss(similarity, overlap).item() == pytest.approx(surprise + apart, rel=1e-5)
    assert prediction_loss(overlap, overlap).item() == pytest.approx(0, abs=1e-6)


def test_losses_are_finite_for_equal_opposite_and_absent_projections() -> None:
    overlap = torch.tensor([[[1.0, 0.0], [1e-4, 0.9999]]])
    for value in (1.0, -1.0, 0.0):
        crops = torch.full((1, 2, 8), value, requires_grad=True)
        bases = torch.ones(1, 2, 8, requires_grad=True)
        loss = prediction_loss(likeness(crops, bases), overlap) + likeness_of_bases(bases)
        loss.backward()
        assert loss.isfinite()
        assert crops.grad is not None
        assert crops.grad.isfinite().all()
        assert bases.grad is not None
        assert bases.grad.isfinite().all()


def test_likeness_is_the_cosine_within_a_patch_and_never_negative() -> None:
    crops = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]])
    bases = torch.tensor([[[1.0, 0.0], [0.0, -2.0]], [[-1.0, 1.0], [5.0, 0.0]]])
    expected = torch.tensor([[[0.6, 0.0]], [[0.0, 1.0]]])
    torch.testing.assert_close(likeness(crops, bases), expected)


def test_bases_are_compared_with_the_others_of_their_patch_alone() -> None:
    bases = noise(2, 4, 8).abs()
    pairs = [
        torch.cosine_similarity(bases[n, i], bases[n, j], dim=0)
        for n in range(2)
        for i in range(4)
        for j in range(4)
        if i != j
    ]
    torch.testing.assert_close(likeness_of_bases(bases), torch.stack(pairs).mean())


def test_no_gradient_of_the_prediction_reaches_the_bases() -> None:
    config = VoCo(kind="voco", grid=(4, 1, 1), crops=1, projector_width=16)
    image = noise(1, 1, 32, 8, 8).requires_grad_()
    task, net = VoCoTask(config), Mean()
    batch = UnlabelledBatch(image=image, seed=0)
    crops = task.transform(batch)
    (whole,) = torch.autograd.grad(task.loss(net, batch), image)
    bases = net(crops.bases.flatten(0, 1)).unflatten(0, (1, 4))
    (alone,) = torch.autograd.grad(likeness_of_bases(bases), image)
    start = int(crops.starts[0, 0, 0])
    inside = torch.zeros(32, dtype=torch.bool)
    inside[start : start + 8] = True
    torch.testing.assert_close(whole[:, :, ~inside], alone[:, :, ~inside])
    assert not torch.allclose(whole[:, :, inside], alone[:, :, inside])


def test_an_encoder_with_attention_and_dropout_learns_too() -> None:
    small = EVERY["pct_net"]
    patch = (2 * small.patch[0], *small.patch[1:])
    config = VoCo(kind="voco", grid=(2, 1, 1), crops=1, projector_width=8)
    assert not list(voco_on(config, where="task", patch=patch, network=small.config))
    net = voco_network(config, small.config, in_channels=1, patch=patch, seed=0).train()
    VoCoTask(config).loss(net, UnlabelledBatch(image=noise(2, 1, *patch), seed=0)).backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None] == []
    assert set(parts_of(net).values()) == {TensorKind.STEM, TensorKind.ENCODER, TensorKind.HEAD}


@pytest.mark.parametrize("size", [1, 2])
def test_every_parameter_gets_a_gradient(size: int) -> None:
    net = voco_network(CONFIG, TINY, in_channels=2, patch=PATCH, seed=0).train()
    loss = VoCoTask(CONFIG).loss(net, UnlabelledBatch(image=noise(size, 2, *PATCH), seed=0))
    loss.backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        if not name.endswith("conv.bias"):
            assert weight.grad.abs().max() > 0, name


def test_projection_of_a_crop_does_not_depend_on_the_others() -> None:
    net = voco_network(CONFIG, TINY, in_channels=1, patch=PATCH, seed=0).train()
    x = noise(4, 1, *SIZE)
    torch.testing.assert_close(net(x)[:1], net(x[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "network",
    [
        TINY,
        ResidualEncoderUNet(kind="resenc_unet", features=(4, 6), blocks_per_stage=(1, 1)),
        UNet(kind="unet", features=(4, 6), norm="batch"),
    ],
    ids=repr,
)
def test_encoder_transfers_by_name_and_counts_all_its_features(network: Network) -> None:
    net = voco_network(CONFIG, network, in_channels=1, patch=PATCH, seed=3)
    whole = build_network(network, in_channels=1, num_classes=2, patch=PATCH, seed=3)
    own = to_arrays(whole)
    encoder = {spec.name for spec in describe(whole) if spec.name.startswith(("stem", "encoder"))}
    body = {n.removeprefix(BODY): a for n, a in to_arrays(net).items() if n.startswith(BODY)}
    assert set(body) == encoder
    assert all(array.tobytes() == own[name].tobytes() for name, array in body.items())
    kinds = {spec.name: spec.kind for spec in describe(net)}
    assert kinds["body.stem.conv.weight"] == TensorKind.STEM
    assert kinds["projector.0.weight"] == TensorKind.HEAD
    assert kinds["projector.1.weight"] == TensorKind.NORM
    assert net.projector[0].in_features == sum(network.features)


def test_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (
        to_arrays(voco_network(CONFIG, TINY, in_channels=1, patch=PATCH, seed=seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(array.tobytes() == again[name].tobytes() for name, array in first.items())
    for name in ("body.stem.conv.weight", "projector.0.weight"):
        assert first[name].tobytes() != other[name].tobytes()


def test_trivial_loss_is_that_of_the_best_constant() -> None:
    task, batch = VoCoTask(CONFIG), UnlabelledBatch(image=noise(2, 1, *PATCH), seed=0)
    overlap = task.transform(batch).overlap
    trivial = task.score(Mean(), batch).trivial_loss
    for value in (0.0, 0.1, 0.25, 0.5, 1.0):
        loss = prediction_loss(torch.full_like(overlap, value), overlap).item()
        assert trivial <= loss + 1e-6
    assert task.picture(Mean(), batch) is None


def test_bfloat16_gives_a_float32_loss() -> None:
    net = voco_network(CONFIG, TINY, in_channels=1, patch=PATCH, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = VoCoTask(CONFIG).loss(net, UnlabelledBatch(image=noise(2, 1, *PATCH), seed=0))
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(weight.grad.isfinite().all() for weight in net.parameters())


def test_places_are_learned() -> None:
    config = VoCo(kind="voco", grid=(4, 1, 1), crops=4, projector_width=32)
    task, network = VoCoTask(config), UNet(kind="unet", features=(4, 8))
    net = voco_network(config, network, in_channels=1, patch=(16, 16, 16), seed=0)
    images = structured_volumes(8, 16, seed=0)
    learn(task, net, images=images[:6], batch_size=2, steps=75, rate=3e-3)
    scores = [task.score(net, UnlabelledBatch(image=images[6:], seed=100 + n)) for n in range(4)]
    assert sum(score.loss for score in scores) < 0.7 * sum(score.trivial_loss for score in scores)


def test_networks_without_an_encoder_of_their_own_are_refused() -> None:
    small = EVERY["vnet"]
    with pytest.raises(NetworkConfigError, match="no encoder that could be trained alone"):
        voco_network(CONFIG, small.config, in_channels=1, patch=PATCH, seed=0)


@pytest.mark.parametrize(
    ("config", "patch", "network", "where", "what"),
    [
        (CONFIG, PATCH, TINY, [], ""),
        (
            VoCo(kind="voco"),
            (256, 256, 64),
            ResidualEncoderPreset(kind="resenc_preset", size="L"),
            [],
            "",
        ),
        (CONFIG, PATCH, EVERY["vnet"].config, ["network.kind"], "that of vnet"),
        (
            VoCo(kind="voco", grid=(1, 1, 1)),
            PATCH,
            TINY,
            ["task.grid"],
            "a grid of one crop",
        ),
        (CONFIG, (20, 24, 8), TINY, ["task.grid[0]"], "20 voxels cannot be divided into 2 crops"),
        (
            VoCo(kind="voco"),
            (128, 128, 32),
            ResidualEncoderPreset(kind="resenc_preset", size="S"),
            ["task.grid"],
            "a crop of [32, 32, 32] voxels",
        ),
        (CONFIG, PATCH, OpenUNet(kind="unet"), [], ""),
    ],
)
def test_checks(
    config: VoCo,
    patch: tuple[int, int, int],
    network: Network,
    where: list[str],
    what: str,
) -> None:
    problems = list(voco_on(config, where="task", patch=patch, network=network))
    assert [problem.where for problem in problems] == where
    assert all(what in problem.what for problem in problems)
