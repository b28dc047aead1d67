"""Masked autoencoder: what the network sees, what the loss sees, that restoring is learned."""

import pytest
import torch
from every_network import EVERY
from structured import learn, structured_volumes
from torch import nn

from fedvol.config.network import Network, UNet
from fedvol.config.pretext import MaskedAutoencoder
from fedvol.config.pretext_checks import mae_on
from fedvol.data.batch import UnlabelledBatch
from fedvol.models import build_network
from fedvol.models.state import describe
from fedvol.plan import TensorKind
from fedvol.ssl.body import body_voxels
from fedvol.ssl.mae import mae_network, mae_task
from fedvol.ssl.task import Pretext

TINY = UNet(kind="unet", features=(4, 6, 8))
PATCH = (16, 16, 8)
CONFIG = MaskedAutoencoder(kind="mae", block=4)


def batch(*, channels: int = 2, size: int = 2, seed: int = 0) -> UnlabelledBatch:
    generator = torch.Generator().manual_seed(seed)
    return UnlabelledBatch(
        image=torch.randn((size, channels, *PATCH), generator=generator), seed=seed
    )


class Fixed(nn.Module):
    """Gives the same intensities always, and remembers what it saw."""

    def __init__(self, given: torch.Tensor) -> None:
        super().__init__()
        self.given = nn.Parameter(given)
        self.part = nn.Identity()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.seen = x
        self.modes = (self.training, self.part.training)
        return (self.given * 1.0,)


def test_is_a_pretext_task() -> None:
    task: Pretext = mae_task(CONFIG)
    assert task.transform(batch()).blocks.shape == (2, 4, 4, 2)


def test_loss_is_blind_to_visible_voxels_and_the_network_to_masked_ones() -> None:
    task, patches = mae_task(CONFIG), mae_task(CONFIG).transform(batch())
    answer = torch.zeros_like(patches.wanted)
    loss = task.loss(Fixed(answer), batch())
    elsewhere = answer.masked_fill(~patches.voxels, 9.0)
    assert torch.equal(task.loss(Fixed(elsewhere), batch()), loss)
    assert task.loss(Fixed(answer.masked_fill(patches.voxels, 9.0)), batch()) > loss + 1
    assert task.loss(Fixed(patches.wanted), batch()).item() == 0

    net = Fixed(answer)
    task.loss(net, batch())
    seen = net.seen
    changed = batch().image.masked_fill(patches.voxels, 7.0)
    task.loss(net, UnlabelledBatch(image=changed, seed=0))
    assert torch.equal(net.seen, seen)


def test_trivial_loss_is_that_of_the_best_constant_for_each_channel() -> None:
    task = mae_task(CONFIG)
    image = batch().image + torch.tensor([3.0, -1.0]).view(1, 2, 1, 1, 1)
    shifted = UnlabelledBatch(image=image, seed=0)
    masked = task.transform(shifted).voxels.expand_as(image)
    means = [image[:, channel][masked[:, channel]].mean() for channel in (0, 1)]
    best = torch.stack(means).view(1, 2, 1, 1, 1).expand_as(image)
    score = task.score(Fixed(best), shifted)
    assert score.loss == pytest.approx(score.trivial_loss, rel=1e-5)
    for channel in (0, 1):
        other = best.clone()
        other[:, channel] += 0.1
        assert task.score(Fixed(other), shifted).loss == pytest.approx(
            score.trivial_loss + 0.01 / 2, rel=1e-4
        )


def test_body_loss_leaves_air_out() -> None:
    image = torch.full((1, 1, *PATCH), -1.0)
    image[:, :, :8] = torch.rand((1, 1, 8, *PATCH[1:])) + 1.0
    task, body = mae_task(CONFIG), body_voxels(image, inside=None)
    given = image.clone()
    given[~body] += 100.0
    given[body] += 1.0
    score = task.score(Fixed(given), UnlabelledBatch(image=image, seed=3))
    assert score.body_loss == pytest.approx(1.0, rel=1e-5)
    assert score.loss > 1000


def test_without_body_there_is_no_body_loss() -> None:
    padding = UnlabelledBatch(image=torch.zeros(1, 1, *PATCH), seed=3)
    assert mae_task(CONFIG).score(Fixed(padding.image), padding).body_loss is None


def test_judging_leaves_every_mode_and_no_gradient() -> None:
    net = Fixed(torch.zeros(2, 2, *PATCH))
    net.train()
    net.part.eval()
    task = mae_task(CONFIG)
    task.score(net, batch())
    picture = task.picture(net, batch())
    assert net.modes == (False, False)
    assert (net.training, net.part.training) == (True, False)
    assert not picture.given.requires_grad
    patches = task.transform(batch())
    assert torch.equal(picture.shown, patches.shown[0])
    assert torch.equal(picture.wanted, patches.wanted[0])
    body = body_voxels(patches.wanted, inside=None)[0, 0]
    assert torch.equal(picture.changed, patches.voxels[0, 0] & body)
    assert picture.changed_area.tolist() == [int(k.sum()) for k in picture.changed.unbind(2)]


@pytest.mark.parametrize("kind", ["unet", "dynunet", "unetr"])
def test_network_gives_intensities_and_all_of_it_learns_and_transfers(kind: str) -> None:
    small = EVERY[kind]
    net = mae_network(small.config, in_channels=2, patch=small.patch, seed=1)
    image = torch.randn((1, 2, *small.patch), generator=torch.Generator().manual_seed(0))
    task = mae_task(MaskedAutoencoder(kind="mae", block=4))
    net.train()
    task.loss(net, UnlabelledBatch(image=image, seed=0)).backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None] == []
    whole = build_network(small.config, in_channels=2, num_classes=5, patch=small.patch)
    shapes = {spec.name: spec.shape for spec in describe(whole) if spec.kind != TensorKind.HEAD}
    ours = {spec.name: spec.shape for spec in describe(net) if spec.kind != TensorKind.HEAD}
    assert shapes == ours


def test_one_channel_is_not_restored_from_the_masked_part_of_another() -> None:
    image = batch().image
    image[:, 1] = image[:, 0]
    patches = mae_task(CONFIG).transform(UnlabelledBatch(image=image, seed=0))
    assert patches.shown[patches.voxels.expand_as(image)].abs().max() == 0


def test_bfloat16_gives_a_float32_loss() -> None:
    net = mae_network(TINY, in_channels=2, patch=PATCH, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mae_task(CONFIG).loss(net, batch())
    assert loss.dtype == torch.float32
    assert loss.isfinite()


def test_restoring_is_learned() -> None:
    task = mae_task(CONFIG)
    network = UNet(kind="unet", features=(4, 8))
    net = mae_network(network, in_channels=1, patch=(16, 16, 16), seed=0)
    images = structured_volumes(8, 16, seed=0)
    learn(task, net, images=images[:6], batch_size=2, steps=25, rate=1e-2)
    score = task.score(net, UnlabelledBatch(image=images[6:], seed=100))
    assert score.loss < 0.5 * score.trivial_loss


@pytest.mark.parametrize(
    ("config", "patch", "network", "where", "what"),
    [
        (CONFIG, (16, 18, 12), TINY, ["task.block"], "18 voxels along j"),
        (
            MaskedAutoencoder(kind="mae", block=16),
            (16, 16, 16),
            TINY,
            ["task.mask_ratio"],
            "1 cubes of 16",
        ),
        (
            MaskedAutoencoder(kind="mae", block=16, mask_ratio=0.05),
            (32, 32, 32),
            TINY,
            ["task.mask_ratio"],
            "0.05 are masked",
        ),
        (CONFIG, (32, 32, 32), EVERY["resnet3d"].config, ["network.kind"], "one answer"),
        (CONFIG, PATCH, TINY, [], ""),
        (MaskedAutoencoder(kind="mae"), (128, 128, 64), EVERY["unetr"].config, [], ""),
    ],
)
def test_checks(
    config: MaskedAutoencoder,
    patch: tuple[int, int, int],
    network: Network,
    where: list[str],
    what: str,
) -> None:
    problems = list(mae_on(config, where="task", patch=patch, network=network))
    assert [problem.where for problem in problems] == where
    assert all(what in problem.what for problem in problems)
