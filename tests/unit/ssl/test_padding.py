"""No task learns from what lies outside a volume, nor is it judged by that."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedvol.config.pretext import (
    MaskedAutoencoder,
    MaskedTokens,
    ModelsGenesis,
    PretextTask,
    SparkMAE,
    VolumeFusion,
)
from fedvol.data.batch import UnlabelledBatch
from fedvol.ssl import Pretext, build_pretext
from fedvol.ssl.models_genesis import ModelsGenesisTask
from fedvol.ssl.volume_fusion import VolumeFusionTask

GRID = (32, 32, 16)
RESTORING: tuple[PretextTask, ...] = (
    MaskedAutoencoder(kind="mae", block=4),
    MaskedTokens(kind="mae_vit"),
    SparkMAE(kind="s3d", block=4),
    ModelsGenesis(kind="models_genesis", flip_probability=0.0),
)
FUSION = VolumeFusion(kind="volume_fusion", smallest_side=4)
DENSE = (*RESTORING, FUSION)


def named(task: PretextTask) -> str:
    return task.kind


class Fixed(nn.Module):
    """Gives the same answer to everything, as the only output or alone."""

    def __init__(self, answer: torch.Tensor, *, is_alone: bool) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)
        self.is_alone = is_alone

    def forward(self, *_: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor]:
        return self.answer if self.is_alone else (self.answer,)


def small_volumes(count: int = 2, *, seed: int = 0) -> UnlabelledBatch:
    """Patches of volumes that fill a part of them, each another; the rest is padding."""
    generator = torch.Generator().manual_seed(seed)
    image = 3 + torch.randn((count, 1, *GRID), generator=generator)
    inside = torch.zeros((count, 1, *GRID), dtype=torch.bool)
    for n, one in enumerate(inside):
        one[:, 2 * n : 24 + n, 5:, :14] = True
    return UnlabelledBatch(image=image * inside, seed=seed, inside=inside)


def told(config: PretextTask, batch: UnlabelledBatch) -> tuple[Pretext, Fixed, torch.Tensor]:
    """The task, a network for it, and where its answers count."""
    assert batch.inside is not None
    if config.kind == "volume_fusion":
        first, second = batch.inside.chunk(2)
        shape, counts = (len(first), 5, *GRID), first & second
    else:
        shape, counts = batch.image.shape, batch.inside
    answer = torch.randn(shape, generator=torch.Generator().manual_seed(9))
    net = Fixed(answer, is_alone=config.kind in ("s3d", "mae_vit"))
    return build_pretext(config), net, counts.expand(shape)


@pytest.mark.parametrize("config", DENSE, ids=named)
def test_answers_outside_a_volume_get_no_gradient(config: PretextTask) -> None:
    batch = small_volumes(4)
    task, net, counts = told(config, batch)
    task.loss(net, batch).backward()
    assert net.answer.grad is not None
    assert (net.answer.grad[~counts] == 0).all()
    share = (net.answer.grad[counts] != 0).float().mean()
    assert share > (0.99 if config.kind in ("models_genesis", "volume_fusion") else 0.5)


@pytest.mark.parametrize("config", DENSE, ids=named)
def test_answers_outside_a_volume_change_no_figure(config: PretextTask) -> None:
    batch = small_volumes(4)
    task, net, counts = told(config, batch)
    before = task.score(net, batch)
    with torch.no_grad():
        net.answer[~counts] += 100.0
    assert task.score(net, batch) == before
    with torch.no_grad():
        net.answer[counts] += torch.randn(net.answer[counts].shape)
    assert task.score(net, batch).loss != before.loss


@pytest.mark.parametrize("config", DENSE, ids=named)
def test_with_nothing_outside_all_is_as_without_a_mask(config: PretextTask) -> None:
    image = small_volumes(4).image
    plain = UnlabelledBatch(image=image, seed=3)
    masked = UnlabelledBatch(image=image, seed=3, inside=torch.ones_like(image, dtype=torch.bool))
    task, net, _ = told(config, masked)
    torch.testing.assert_close(task.loss(net, masked), task.loss(net, plain))
    ours, theirs = task.score(net, masked), task.score(net, plain)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert ours.trivial_loss == pytest.approx(theirs.trivial_loss, rel=1e-5)
    assert (ours.body_loss or 0) == pytest.approx(theirs.body_loss or 0, rel=1e-5)


@pytest.mark.parametrize("config", RESTORING, ids=named)
def test_the_best_constant_and_the_body_are_those_of_the_volume(config: PretextTask) -> None:
    """Volumes have values about 3, and padding 0: a mean over both would be far from either."""
    batch = small_volumes()
    task, net, _ = told(config, batch)
    with torch.no_grad():
        net.answer.fill_(3.0)
    score = task.score(net, batch)
    assert score.trivial_loss <= score.loss < 1.1
    assert score.trivial_loss == pytest.approx(1.0, abs=0.1)
    assert score.body_loss is not None
    assert score.body_loss < 1.1


@pytest.mark.parametrize(
    "config",
    [task for task in DENSE if task.kind != "models_genesis"],
    ids=named,
)
def test_a_batch_in_which_nothing_is_asked_has_no_loss(config: PretextTask) -> None:
    inside = torch.zeros((2, 1, *GRID), dtype=torch.bool)
    batch = UnlabelledBatch(image=torch.zeros(2, 1, *GRID), seed=0, inside=inside)
    task, net, _ = told(config, batch)
    loss = task.loss(net, batch)
    loss.backward()
    assert loss == 0
    assert (net.answer.grad == 0).all()
    score = task.score(net, batch)
    assert (score.loss, score.trivial_loss, score.body_loss) == (0, 0, None)


def disturbed(batch: UnlabelledBatch, **keys: float) -> Callable[[], torch.Tensor]:
    nothing = {f"{name}_probability": 0.0 for name in ("flip", "shuffle", "intensity", "paint")}
    config = ModelsGenesis.model_validate({"kind": "models_genesis", **nothing, **keys})
    return lambda: ModelsGenesisTask(config).transform(batch).image


@pytest.mark.parametrize("change", ["shuffle", "intensity", "paint"])
def test_models_genesis_disturbs_the_volume_alone(change: str) -> None:
    batch = small_volumes(8)
    assert batch.inside is not None
    image = disturbed(batch, **{f"{change}_probability": 1.0})()
    assert (image[~batch.inside] == 0).all()
    for before, after, inside in zip(batch.image, image, batch.inside, strict=True):
        low, high = before[inside].aminmax()
        assert low <= after[inside].min()
        assert after[inside].max() <= high
        if change == "shuffle":
            assert torch.equal(after[inside].sort().values, before[inside].sort().values)
            assert not torch.equal(after, before)


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_padding_far_below_a_volumes_own_range_stays_padding(spread: float) -> None:
    """As where air outside a soft tissue's narrow range of intensities was filled in."""
    batch = small_volumes()
    assert batch.inside is not None
    bright = (5 + spread * torch.sigmoid(batch.image)) * batch.inside
    image = disturbed(replace(batch, image=bright), intensity_probability=1.0)()
    assert (image[~batch.inside] == 0).all()
    assert (image[batch.inside] >= 5).all()


def test_models_genesis_flips_volume_and_padding_together() -> None:
    batch = small_volumes(20)
    config = ModelsGenesis(
        kind="models_genesis", flip_probability=1.0, intensity_probability=0.0,
        shuffle_probability=0.0, paint_probability=0.0,
    )  # fmt: skip
    flipped = ModelsGenesisTask(config).transform(batch)
    assert flipped.inside is not None
    assert batch.inside is not None
    assert not torch.equal(flipped.inside, batch.inside)
    assert (flipped.target[~flipped.inside] == 0).all()
    assert (flipped.target[flipped.inside] != 0).all()


def test_no_class_is_asked_where_either_of_a_pair_is_padding() -> None:
    batch = small_volumes(4)
    fusion = VolumeFusionTask(FUSION).transform(batch)
    assert fusion.inside is not None
    assert batch.inside is not None
    for n in range(2):
        assert torch.equal(fusion.inside[n], batch.inside[n, 0] & batch.inside[n + 2, 0])
    whole = UnlabelledBatch(image=batch.image, seed=0)
    assert VolumeFusionTask(FUSION).transform(whole).inside is None
