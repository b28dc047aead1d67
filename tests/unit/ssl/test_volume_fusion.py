"""Volume Fusion: what is blended with what, its classes, its loss, and that it is learned."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from every_network import EVERY
from structured import learn, structured_volumes
from torch import nn

from fedvol.config.network import Network, UNet
from fedvol.config.pretext import VolumeFusion
from fedvol.config.pretext_checks import volume_fusion_on
from fedvol.data.batch import UnlabelledBatch
from fedvol.models import build_network
from fedvol.models.state import describe
from fedvol.plan import TensorKind
from fedvol.ssl import volume_fusion
from fedvol.ssl.task import Pretext
from fedvol.ssl.volume_fusion import (
    VolumeFusionTask,
    best_constant_loss,
    fusion_loss,
    volume_fusion_network,
)

TINY = UNet(kind="unet", features=(4, 6, 8))


def config(**keys: Any) -> VolumeFusion:
    return VolumeFusion(kind="volume_fusion", **keys)


def pairs(num: int, *, channels: int = 1, grid: tuple[int, ...] = (16, 16, 16), seed: int = 0):
    image = torch.randn((2 * num, channels, *grid), generator=torch.Generator().manual_seed(seed))
    return UnlabelledBatch(image=image, seed=seed)


@pytest.mark.parametrize("levels", [1, 4, 16])
@pytest.mark.parametrize(("channels", "grid"), [(1, (16, 16, 16)), (2, (32, 16, 13))])
def test_the_image_is_the_blend_that_the_label_says(
    levels: int, channels: int, grid: tuple[int, ...]
) -> None:
    batch = pairs(3, channels=channels, grid=grid)
    fusion = VolumeFusionTask(config(levels=levels)).transform(batch)
    front, back = batch.image[:3], batch.image[3:]
    label = fusion.label.unsqueeze(1).expand_as(front)
    assert fusion.image.shape == front.shape
    assert set(fusion.label.unique().tolist()) == set(range(levels + 1))
    for level in range(levels + 1):
        here, share = label == level, level / levels
        blend = share * front[here].double() + (1 - share) * back[here].double()
        torch.testing.assert_close(fusion.image[here].double(), blend, rtol=1e-6, atol=1e-6)
    assert torch.equal(fusion.image[label == levels], front[label == levels])
    assert torch.equal(fusion.image[label == 0], back[label == 0])


def test_pasted_boxes_are_never_of_class_0_and_later_ones_lie_above(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []

    def spy(count: int, **keys: Any) -> torch.Tensor:
        drawn.append(draw(count, **keys))
        return drawn[-1]

    draw = volume_fusion.draw_boxes
    monkeypatch.setattr(volume_fusion, "draw_boxes", spy)
    label = VolumeFusionTask(config(boxes=(3, 9))).transform(pairs(40)).label
    assert {len(boxes) for boxes in drawn} == set(range(3, 10))
    for sample, boxes in zip(label, drawn, strict=True):
        inside = torch.zeros(sample.shape, dtype=torch.bool)
        for i, j, k in boxes.tolist():
            box = slice(*i), slice(*j), slice(*k)
            inside[box] = True
        assert sample[box].unique().numel() == 1, "the last box is covered by none"
        assert torch.equal(sample > 0, inside)


def test_sides_of_boxes_follow_each_axis() -> None:
    task = VolumeFusionTask(config(boxes=(1, 1), smallest_side=3, largest_side=0.5))
    label = task.transform(pairs(600, grid=(8, 16, 12))).label
    sides = {axis: set[int]() for axis in range(3)}
    for sample in label:
        for axis, where in enumerate(sample.nonzero(as_tuple=True)):
            sides[axis].add(int(where.max() - where.min()) + 1)
    assert sides == {0: {3, 4}, 1: set(range(3, 9)), 2: set(range(3, 7))}


def test_a_patch_is_blended_with_its_partner_and_no_other() -> None:
    """Batch 1 too: with itself it would be as it was, whatever the label."""
    for num in (1, 3):
        image = torch.arange(2.0 * num).view(-1, 1, 1, 1, 1).expand(-1, 1, 16, 16, 16)
        batch = UnlabelledBatch(image=image, seed=4)
        fusion = VolumeFusionTask(config()).transform(batch)
        for n in range(num):
            share = fusion.label[n] / 4
            assert torch.equal(fusion.image[n, 0], share * n + (1 - share) * (n + num))
            assert fusion.label[n].unique().numel() > 2


def test_half_a_pair_is_refused() -> None:
    batch = UnlabelledBatch(image=torch.zeros(3, 1, 16, 16, 16), seed=0)
    with pytest.raises(ValueError, match="3 patches are no pairs"):
        VolumeFusionTask(config()).transform(batch)


def test_same_seed_same_boxes_and_samples_have_their_own() -> None:
    task, batch = VolumeFusionTask(config()), pairs(2)
    once, again = task.transform(batch), task.transform(batch)
    assert torch.equal(once.label, again.label)
    assert torch.equal(once.image, again.image)
    assert not torch.equal(once.label[0], once.label[1])
    other = task.transform(UnlabelledBatch(image=batch.image, seed=1))
    assert not torch.equal(once.label, other.label)


def test_the_layout_of_the_batch_is_kept() -> None:
    layout = torch.channels_last_3d
    batch = pairs(2, channels=2).to(torch.device("cpu"), layout=layout)
    image = VolumeFusionTask(config()).transform(batch).image
    assert image.is_contiguous(memory_format=layout)


# --- loss -------------------------------------------------------------------------------------


def loop_loss(logits: np.ndarray, label: np.ndarray) -> float:
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    num_classes = p.shape[1]
    overlap, size, entropy = np.zeros(num_classes), np.zeros(num_classes), 0.0
    for n in range(len(label)):
        for voxel in np.ndindex(*label.shape[1:]):
            for c in range(num_classes):
                truth = float(label[n][voxel] == c)
                overlap[c] += truth * p[n, c][voxel]
                size[c] += truth + p[n, c][voxel]
                entropy -= truth * math.log(p[n, c][voxel])
    dice = np.mean((2 * overlap + 1e-5) / (size + 1e-5))
    return (1 - float(dice)) / 2 + entropy / label.size / 2


def test_the_loss_is_that_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 5, 4, 3, 2), dtype=torch.float64, generator=generator)
    label = torch.randint(0, 4, (2, 4, 3, 2), generator=generator)  # class 4 is absent
    assert fusion_loss(logits, label).item() == pytest.approx(
        loop_loss(logits.numpy(), label.numpy()), rel=1e-5
    )
    certain = 200 * nn.functional.one_hot(label, 5).movedim(-1, 1)
    assert fusion_loss(certain, label).item() == pytest.approx(0, abs=1e-6)


class Outputs(nn.Module):
    """Gives what it was made with."""

    def __init__(self, *outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, _: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.outputs


def test_coarser_outputs_count_half_and_see_every_second_voxel() -> None:
    task, batch = VolumeFusionTask(config()), pairs(1)
    label = task.transform(batch).label
    generator = torch.Generator().manual_seed(0)
    fine, coarse = (
        torch.randn((1, 5, *grid), generator=generator) for grid in ((16, 16, 16), (8, 16, 4))
    )
    expected = 2 * fusion_loss(fine, label) + fusion_loss(coarse, label[:, ::2, :, ::4])
    torch.testing.assert_close(task.loss(Outputs(fine, coarse), batch), expected / 3)


@pytest.mark.parametrize("counts", [(700, 100, 50, 100, 50), (1, 1), (30, 5, 0, 9)])
def test_no_constant_answer_is_better_than_the_trivial_one(counts: tuple[int, ...]) -> None:
    label = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).view(1, -1, 1, 1)
    # A class that is absent is best not believed in at all.
    absent = torch.tensor([-200.0 if count == 0 else 0.0 for count in counts])

    def loss(answer: torch.Tensor) -> torch.Tensor:
        logits = (answer + absent).view(1, -1, 1, 1, 1)
        return fusion_loss(logits.expand(-1, -1, *label.shape[1:]), label)

    answer = torch.zeros(len(counts), requires_grad=True)
    optimiser = torch.optim.Adam([answer], lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss(answer).backward()
        optimiser.step()
    least = best_constant_loss(torch.tensor(counts))
    assert loss(answer).item() == pytest.approx(least, abs=1e-4)
    shares = torch.tensor(counts).float().clamp(min=1).log()
    assert least <= loss(shares).item() + 1e-6
    assert least <= loss(torch.zeros(len(counts))).item() + 1e-6


def test_the_score_is_that_of_the_finest_output_and_leaves_the_network_alone() -> None:
    task, batch = VolumeFusionTask(config()), pairs(2)
    net = volume_fusion_network(config(), TINY, in_channels=1, patch=(16, 16, 16), seed=0)
    net.train()
    net.encoder[0].eval()  # as a frozen norm is
    modes = [module.training for module in net.modules()]
    score = task.score(net, batch)
    assert [module.training for module in net.modules()] == modes
    assert all(parameter.grad is None for parameter in net.parameters())
    fusion = task.transform(batch)
    assert score.loss == pytest.approx(fusion_loss(net(fusion.image)[0], fusion.label).item())
    assert score.trivial_loss == best_constant_loss(fusion.label.flatten().bincount())
    assert score.body_loss is None


def test_the_picture_shows_classes() -> None:
    task, batch = VolumeFusionTask(config()), pairs(2)
    fusion = task.transform(batch)
    logits = nn.functional.one_hot(fusion.label, 5).movedim(-1, 1).float()
    picture = task.picture(Outputs(logits), batch)
    assert torch.equal(picture.shown, fusion.image[0])
    assert torch.equal(picture.wanted, fusion.label[:1].float())
    assert torch.equal(picture.given, picture.wanted)
    assert torch.equal(picture.changed, fusion.label[0] > 0)


# --- network ----------------------------------------------------------------------------------


def test_all_but_the_heads_transfers_by_name() -> None:
    fusing = describe(
        volume_fusion_network(config(levels=6), TINY, in_channels=2, patch=(16, 16, 16), seed=0)
    )
    study = describe(build_network(TINY, in_channels=2, num_classes=2))
    assert [tensor.name for tensor in fusing] == [tensor.name for tensor in study]
    for ours, theirs in zip(fusing, study, strict=True):
        assert (ours == theirs) == (ours.kind is not TensorKind.HEAD)
        assert ours.kind is not TensorKind.HEAD or ours.shape[0] == 7


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_every_parameter_gets_a_gradient(precision: torch.dtype) -> None:
    net = volume_fusion_network(config(), TINY, in_channels=2, patch=(16, 16, 16), seed=0).train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision is torch.bfloat16):
        loss = VolumeFusionTask(config()).loss(net, pairs(1, channels=2))
    assert loss.dtype is torch.float32
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A bias before a norm layer is taken out again: its gradient is rounding only.
        assert name.endswith("conv.bias") or parameter.grad.abs().max() > 0, name


def test_a_few_steps_beat_the_best_constant() -> None:
    task: Pretext = VolumeFusionTask(config(smallest_side=4))
    net = volume_fusion_network(config(), TINY, in_channels=1, patch=(16, 16, 16), seed=0)
    unseen = UnlabelledBatch(image=structured_volumes(8, 16, seed=1), seed=99)
    before = task.score(net, unseen)
    images = structured_volumes(24, 16, seed=0)
    learn(task, net, images=images, batch_size=4, steps=60, rate=2e-2)
    after = task.score(net, unseen)
    assert after.loss < 0.95 * after.trivial_loss < before.loss


# --- checks -----------------------------------------------------------------------------------


def found(
    section: VolumeFusion, *, patch: tuple[int, int, int] = (64, 64, 64), network: Network = TINY
) -> list[str]:
    problems = volume_fusion_on(section, where="task", patch=patch, network=network)
    return [f"{problem}" for problem in problems]


def test_what_the_task_cannot_work_with_is_refused() -> None:
    assert found(config()) == []
    assert found(config(), patch=(13, 13, 128)) == []
    [small] = found(config(), patch=(64, 12, 64))
    assert small.startswith("task.smallest_side: a box of 8 voxels a side is larger")
    assert "Use 7 or less" in small
    [tiny] = found(config(largest_side=0.1), patch=(8, 8, 8))
    assert "Use a larger patch or largest_side." in tiny
    [order] = found(config(boxes=(9, 3)))
    assert order.startswith("task.boxes: the range runs from 9 down to 3")
    [classes] = found(config(), network=EVERY["resnet3d"].config)
    assert classes.startswith("network.kind: volume_fusion wants values of each voxel")


def test_what_is_not_refused_can_be_drawn() -> None:
    for side in range(8, 20):
        section = config(smallest_side=5, boxes=(1, 1))
        if not found(section, patch=(side, side, 24)):
            VolumeFusionTask(section).transform(pairs(60, grid=(side, side, 24)))
