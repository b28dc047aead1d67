"""Rotation prediction: the turns, their classes, and that they are learned."""

import math

import pytest
import torch
from every_network import EVERY
from structured import learn, structured_volumes

from fedvol.config.network import Network, UNet
from fedvol.config.pretext import RotationPrediction
from fedvol.config.pretext_checks import rotation_on
from fedvol.data.batch import UnlabelledBatch
from fedvol.errors import NetworkConfigError
from fedvol.models import build_network
from fedvol.models.state import describe
from fedvol.plan import TensorKind
from fedvol.ssl.networks import BODY
from fedvol.ssl.rotation import RotationTask, rotate, rotation_network
from fedvol.ssl.task import Pretext

TINY = UNet(kind="unet", features=(4, 6, 8))
CUBE = (8, 8, 8)


def config(axis: int | None = None) -> RotationPrediction:
    return RotationPrediction(kind="rotation", axis=axis)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("axis", "num_turns"), [(None, 10), (0, 4), (1, 4), (2, 4)])
def test_turns_are_distinct_and_can_be_taken_back(axis: int | None, num_turns: int) -> None:
    turns, patch = RotationTask(config(axis)).turns, noise(2, *CUBE)
    results = [rotate(patch, axis=about, turns=turn) for about, turn in turns]
    assert len({result.numpy().tobytes() for result in results}) == num_turns == len(turns)
    assert torch.equal(results[0], patch)
    for (about, turn), result in zip(turns, results, strict=True):
        assert torch.equal(rotate(result, axis=about, turns=-turn), patch)
        assert axis in (None, about)


@pytest.mark.parametrize("axis", range(3))
def test_turns_are_right_handed(axis: int) -> None:
    """About k, what was seen towards +i is seen towards +j."""
    towards = torch.zeros(1, 5, 5, 5)
    before, after = (axis + 1) % 3, (axis + 2) % 3
    ends = [[2, 2, 2], [2, 2, 2]]
    ends[0][before] = ends[1][after] = 4
    towards[0, *ends[0]] = 1
    turned = rotate(towards, axis=axis, turns=1)
    assert turned[0].nonzero().tolist() == [ends[1]]


@pytest.mark.parametrize(("axis", "grid"), [(None, (6, 6, 6)), (2, (6, 6, 3)), (0, (4, 5, 5))])
def test_the_answer_says_how_each_sample_was_turned(
    axis: int | None, grid: tuple[int, int, int]
) -> None:
    task, image = RotationTask(config(axis)), noise(60, 2, *grid)
    rotated = task.transform(UnlabelledBatch(image=image, seed=0))
    assert set(rotated.answer.tolist()) == set(range(len(task.turns)))
    for before, after, answer in zip(image, rotated.image, rotated.answer, strict=True):
        about, turn = task.turns[answer]
        assert torch.equal(rotate(after, axis=about, turns=-turn), before)


def test_classes_are_equally_likely() -> None:
    batch = UnlabelledBatch(image=torch.zeros(5000, 1, 1, 1, 1), seed=0)
    shares = RotationTask(config()).transform(batch).answer.bincount() / 5000
    torch.testing.assert_close(shares, torch.full((10,), 0.1), rtol=0, atol=0.02)


def test_a_patch_that_would_change_its_shape_is_refused() -> None:
    batch = UnlabelledBatch(image=torch.zeros(60, 1, 6, 6, 3), seed=0)
    with pytest.raises(ValueError, match=r"\(6, 6, 3\) voxels is not square about"):
        RotationTask(config()).transform(batch)


def test_same_seed_same_turns() -> None:
    task, image = RotationTask(config()), noise(8, 1, *CUBE)
    once, again, other = (
        task.transform(UnlabelledBatch(image=image, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(once.image, again.image)
    assert torch.equal(once.answer, again.answer)
    assert not torch.equal(once.answer, other.answer)


def test_the_layout_of_the_batch_is_kept() -> None:
    layout = torch.channels_last_3d
    batch = UnlabelledBatch(image=noise(2, 2, *CUBE), seed=0).to(torch.device("cpu"), layout=layout)
    assert RotationTask(config()).transform(batch).image.is_contiguous(memory_format=layout)


# --- network ----------------------------------------------------------------------------------


def test_the_encoder_is_the_studys_and_transfers_by_name() -> None:
    net = rotation_network(config(), TINY, in_channels=2, patch=CUBE, seed=3)
    study = {
        tensor.name: tensor
        for tensor in describe(build_network(TINY, in_channels=2, num_classes=3))
    }
    wanted = {name for name in study if name.startswith(("stem.", "encoder."))}
    encoder = [tensor for tensor in describe(net) if tensor.name.startswith(BODY)]
    assert {tensor.name.removeprefix(BODY) for tensor in encoder} == wanted
    for tensor in encoder:
        theirs = study[tensor.name.removeprefix(BODY)]
        assert (tensor.shape, tensor.kind) == (theirs.shape, theirs.kind)
    heads = {t.name: t.shape for t in describe(net) if t.kind is TensorKind.HEAD}
    assert heads == {"head.weight": (10, 8), "head.bias": (10,)}


def test_weights_are_drawn_from_the_seed_alone() -> None:
    state = torch.random.get_rng_state()
    first, same, other = (
        rotation_network(config(2), TINY, in_channels=1, patch=CUBE, seed=seed).state_dict()
        for seed in (3, 3, 4)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("name", EVERY)
def test_the_check_knows_the_networks_whose_encoder_stands_alone(name: str) -> None:
    small = EVERY[name]
    problems = [f"{problem}" for problem in found(network=small.config, patch=(64, 64, 64))]
    if name in ("unet", "resenc_unet", "resenc_preset", "pct_net"):
        assert problems == []
        rotation_network(config(), small.config, in_channels=1, patch=small.patch, seed=0)
    else:
        [problem] = problems
        assert problem.startswith("network.kind: rotation trains the encoder alone")


def test_a_network_without_an_encoder_of_its_own_is_refused() -> None:
    with pytest.raises(NetworkConfigError, match="no encoder that could be trained alone"):
        rotation_network(config(), EVERY["segresnet"].config, in_channels=1, patch=CUBE, seed=0)


# --- loss -------------------------------------------------------------------------------------


def test_the_trivial_loss_is_that_of_equal_chances() -> None:
    net = rotation_network(config(), TINY, in_channels=1, patch=CUBE, seed=0)
    torch.nn.init.zeros_(net.head.weight)
    net.train()
    net.body.encoder[0].eval()  # as a frozen norm is
    modes = [module.training for module in net.modules()]
    task, batch = RotationTask(config()), UnlabelledBatch(image=noise(1, 1, *CUBE), seed=0)
    score = task.score(net, batch)
    assert score.loss == pytest.approx(score.trivial_loss)
    assert score.trivial_loss == pytest.approx(math.log(10))
    assert score.body_loss is None
    assert [module.training for module in net.modules()] == modes
    assert all(parameter.grad is None for parameter in net.parameters())
    assert task.picture(net, batch) is None


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("axis", [None, 2])
def test_every_parameter_gets_a_gradient(axis: int | None, precision: torch.dtype) -> None:
    """From a batch of one."""
    net = rotation_network(config(axis), TINY, in_channels=2, patch=CUBE, seed=0).train()
    batch = UnlabelledBatch(image=noise(1, 2, *CUBE), seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision is torch.bfloat16):
        loss = RotationTask(config(axis)).loss(net, batch)
    assert loss.dtype is torch.float32
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A bias before a norm layer is taken out again: its gradient is rounding only.
        assert name.endswith("conv.bias") or parameter.grad.abs().max() > 0, name


def test_a_few_steps_beat_equal_chances() -> None:
    task: Pretext = RotationTask(config())
    wider = UNet(kind="unet", features=(8, 16, 32))
    net = rotation_network(config(), wider, in_channels=1, patch=(16, 16, 16), seed=0)
    unseen = UnlabelledBatch(image=structured_volumes(40, 16, seed=1), seed=99)
    before = task.score(net, unseen)
    learn(task, net, images=structured_volumes(32, 16, seed=0), batch_size=8, steps=50, rate=5e-3)
    after = task.score(net, unseen)
    assert after.loss < 0.95 * after.trivial_loss < before.loss


# --- checks -----------------------------------------------------------------------------------


def found(
    axis: int | None = None,
    *,
    patch: tuple[int, int, int] = (64, 64, 64),
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    network: Network = TINY,
    mirror_axes: tuple[int, ...] = (),
) -> list[str]:
    problems = rotation_on(
        config(axis),
        where="task",
        patch=patch,
        spacing_mm=spacing_mm,
        network=network,
        mirror_axes=mirror_axes,
    )
    return [f"{problem}" for problem in problems]


def test_what_the_task_cannot_work_with_is_refused() -> None:
    assert found() == []
    assert found(2, patch=(64, 64, 16), spacing_mm=(1.0, 1.0, 5.0)) == []
    shape, spacing = found(patch=(64, 64, 16), spacing_mm=(1.0, 1.0, 5.0))
    assert shape.startswith("patches.size: [64, 64, 16] voxels do not keep their shape")
    assert "i and j and k the same number of voxels, or set task.axis" in shape
    assert spacing.startswith("preprocessing.spacing_mm: voxels of [1.0, 1.0, 5.0] mm")
    [shape] = found(0, patch=(64, 64, 16))
    assert "when j and k change places. Give j and k the same number of voxels." in shape
    [spacing] = found(1, spacing_mm=(1.0, 5.0, 1.1))
    assert "Give i and k the same spacing." in spacing
    [mirrored] = found(mirror_axes=(0,))
    assert mirrored.startswith("augmentation.mirror_axes: a mirrored patch")
