"""Models Genesis: each disturbance alone, all together, and that restoring is learned."""

from typing import Any

import numpy as np
import pytest
import torch
from every_network import EVERY
from structured import learn, structured_volumes
from torch import nn

from fedvol.config.network import Network, UNet
from fedvol.config.pretext import ModelsGenesis
from fedvol.config.pretext_checks import models_genesis_on
from fedvol.data.batch import UnlabelledBatch
from fedvol.models import build_network
from fedvol.models.state import describe
from fedvol.plan import TensorKind
from fedvol.ssl import models_genesis, windows
from fedvol.ssl.body import body_voxels
from fedvol.ssl.boxes import draw_boxes
from fedvol.ssl.models_genesis import (
    Disturbance,
    ModelsGenesisTask,
    draw_curve,
    models_genesis_network,
)
from fedvol.ssl.task import Pretext
from fedvol.ssl.windows import shuffle_in_windows, topmost_windows

TINY = UNet(kind="unet", features=(4, 6, 8))
NOTHING = {f"{name}_probability": 0.0 for name in ("flip", "shuffle", "intensity", "paint")}


def only(**keys: Any) -> ModelsGenesisTask:
    """The task without disturbances other than these."""
    return ModelsGenesisTask(ModelsGenesis(kind="models_genesis", **{**NOTHING, **keys}))


def everything() -> ModelsGenesisTask:
    return ModelsGenesisTask(ModelsGenesis(kind="models_genesis"))


def noise(*shape: int, seed: int = 0) -> UnlabelledBatch:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return UnlabelledBatch(image=image, seed=seed)


def coordinates(grid: tuple[int, int, int]) -> torch.Tensor:
    """Three channels that say where a voxel was."""
    return torch.stack(torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")).float()


def spied_boxes(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Every set of boxes that is drawn from now on."""
    drawn = list[torch.Tensor]()

    def spy(count: int, **keys: Any) -> torch.Tensor:
        drawn.append(draw_boxes(count, **keys))
        return drawn[-1]

    monkeypatch.setattr(models_genesis, "draw_boxes", spy)
    return drawn


def test_without_disturbances_nothing_changes() -> None:
    batch = noise(2, 2, 16, 8, 12)
    disturbed = only().transform(batch)
    assert torch.equal(disturbed.image, batch.image)
    assert torch.equal(disturbed.target, batch.image)


def test_flips_are_of_input_and_target_alike() -> None:
    grid = (8, 10, 12)
    image = coordinates(grid).expand(60, -1, -1, -1, -1)
    disturbed = only(flip_probability=1.0).transform(UnlabelledBatch(image=image, seed=0))
    assert torch.equal(disturbed.image, disturbed.target)
    seen = set()
    for patch in disturbed.target:
        axes = tuple(axis for axis in range(3) if patch[axis, 0, 0, 0] != 0)
        seen.add(axes)
        assert torch.equal(patch, image[0].flip([axis + 1 for axis in axes]))
    # Three flips: one axis alone (of which two may have undone each other), or each once.
    assert seen == {(0,), (1,), (2,), (0, 1, 2)}


def test_flips_follow_one_another_with_their_chance() -> None:
    image = coordinates((8, 8, 8)).expand(2000, -1, -1, -1, -1)
    target = only().transform(UnlabelledBatch(image=image[:1], seed=0)).target
    assert torch.equal(target[0], image[0])
    target = only(flip_probability=0.4).transform(UnlabelledBatch(image=image, seed=0)).target
    flipped = (target[:, :, 0, 0, 0] != 0).any(1).float().mean().item()
    # None flipped: no draw, or two that undo each other.
    assert flipped == pytest.approx(1 - (0.6 + 0.4 * 0.4 * 0.6 / 3), abs=0.03)


# --- shuffling --------------------------------------------------------------------------------


def test_shuffling_keeps_every_value_and_moves_it_by_less_than_a_window() -> None:
    grid = (40, 60, 20)
    image = coordinates(grid)
    shuffled = only(shuffle_probability=1.0).transform(UnlabelledBatch(image=image[None], seed=3))
    assert torch.equal(shuffled.target[0], image)
    moved = shuffled.image[0] - image
    assert [int(channel.abs().max()) for channel in moved] == [3, 5, 1]
    places = (shuffled.image[0, 0] * 60 + shuffled.image[0, 1]) * 20 + shuffled.image[0, 2]
    assert torch.equal(places.flatten().sort().values, torch.arange(48_000.0))
    assert moved.any(0).float().mean() > 0.5


def test_each_sample_is_shuffled_with_its_chance() -> None:
    image = coordinates((20, 20, 20)).expand(60, -1, -1, -1, -1)
    batch = UnlabelledBatch(image=image, seed=0)
    shuffled = only(shuffle_probability=0.5).transform(batch).image
    share = (shuffled != image).flatten(1).any(1).float().mean()
    assert share == pytest.approx(0.5, abs=0.2)
    assert len({patch.numpy().tobytes() for patch in shuffled}) > 20


def test_the_number_of_windows_grows_with_the_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = spied_boxes(monkeypatch)
    task = only(shuffle_probability=1.0)
    for grid in ((64, 64, 32), (32, 32, 16), (8, 8, 8)):
        task.transform(noise(1, 1, *grid))
    assert [len(boxes) for boxes in drawn] == [10_000, 1_250, 39]


def test_the_topmost_window_is_that_of_a_plain_loop() -> None:
    grid, generator = (7, 9, 11), torch.Generator().manual_seed(0)
    drawn = draw_boxes(90, grid=grid, smallest=(1, 1, 1), largest=(4, 3, 5), generator=generator)
    expected = torch.full(grid, -1)
    for index, (i, j, k) in enumerate(drawn.tolist()):
        expected[slice(*i), slice(*j), slice(*k)] = index
    found = topmost_windows(drawn, grid=grid)
    assert torch.equal(found.clamp(min=-1).long(), expected)
    alone = found[expected < 0]
    assert alone.unique().numel() == alone.numel(), "uncovered voxels have nothing in common"


def test_windows_are_cut_into_lines_in_parts_of_any_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = draw_boxes(
        100,
        grid=(9, 8, 7),
        smallest=(1, 1, 1),
        largest=(3, 3, 3),
        generator=torch.Generator().manual_seed(0),
    )
    at_once = topmost_windows(drawn, grid=(9, 8, 7))
    monkeypatch.setattr(windows, "_AT_ONCE", 7)
    assert torch.equal(topmost_windows(drawn, grid=(9, 8, 7)), at_once)


def test_windows_are_permuted_inside_what_lies_open_of_them() -> None:
    grid = (1, 2, 8)
    overlapping = torch.tensor([[(0, 1), (0, 2), (0, 3)], [(0, 1), (1, 2), (2, 6)]])
    groups = [{0, 1, 2, 8, 9}, {10, 11, 12, 13}]
    seen = [set() for _ in range(16)]
    for seed in range(80):
        order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
        sources = shuffle_in_windows(overlapping, grid=grid, order=order).tolist()
        assert sorted(sources) == list(range(16))
        for voxel, source in enumerate(sources):
            seen[voxel].add(source)
    for voxel, sources in enumerate(seen):
        group = next((group for group in groups if voxel in group), {voxel})
        assert sources == group


# --- intensities ------------------------------------------------------------------------------


def test_curves_run_from_end_to_end_and_never_turn_back() -> None:
    generator = torch.Generator().manual_seed(0)
    curves = torch.stack([draw_curve(generator) for _ in range(300)])
    assert curves.min() == 0
    assert curves.max() == 1
    falls = curves[:, 0] == 1
    assert falls.float().mean() == pytest.approx(0.5, abs=0.1)
    rising = torch.where(falls[:, None], curves.flip(1), curves)
    assert (rising[:, 0] == 0).all()
    assert (rising[:, -1] == 1).all()
    assert (rising.diff(dim=1) >= 0).all()
    assert curves[:, 512].std() > 0.1


def de_casteljau(points: np.ndarray, t: float) -> np.ndarray:
    """The point of a Bézier curve, by repeated division of its control lines."""
    while len(points) > 1:
        points = points[:-1] + t * np.diff(points, axis=0)
    return points[0]


def test_a_curve_is_the_cubic_of_its_control_points() -> None:
    for seed in range(12):
        curve = draw_curve(torch.Generator().manual_seed(seed)).numpy()
        same = torch.Generator().manual_seed(seed)
        drawn = torch.rand((2, 2), dtype=torch.float64, generator=same).numpy()
        points = np.array([(0, 0), *drawn.T, (1, 1)])
        for t in (0.1, 0.35, 0.5, 0.8):
            x, y = de_casteljau(points, t)
            if curve[0] == 1:  # it falls: y is read from the other end
                y = de_casteljau(points, 1 - t)[1]
            at_x = np.interp(x, np.linspace(0, 1, len(curve)), curve)
            assert at_x == pytest.approx(y, abs=5e-3)


def test_each_channel_keeps_its_range_and_its_order_or_the_reverse() -> None:
    batch = noise(30, 2, 8, 8, 8)
    image = batch.image * torch.tensor([1.0, 50.0]).view(2, 1, 1, 1) + 7
    disturbed = only(intensity_probability=1.0).transform(UnlabelledBatch(image=image, seed=0))
    assert torch.equal(disturbed.target, image)
    directions = []
    for before, after in zip(image.flatten(0, 1), disturbed.image.flatten(0, 1), strict=True):
        ordered = after.flatten()[before.flatten().argsort()]
        falls = bool(ordered[0] > ordered[-1])
        directions.append(falls)
        steps = ordered.diff() * (-1 if falls else 1)
        assert (steps >= 0).all()
        torch.testing.assert_close(after.min(), before.min())
        torch.testing.assert_close(after.max(), before.max())
        assert not torch.equal(before, after)
    both = torch.tensor(directions).view(30, 2)
    assert (both[:, 0] != both[:, 1]).any(), "channels have curves of their own"


def test_a_patch_of_one_value_stays() -> None:
    batch = UnlabelledBatch(image=torch.full((8, 2, 20, 8, 8), -3.25), seed=0)
    disturbed = everything().transform(batch)
    assert torch.equal(disturbed.image, batch.image)


# --- painting ---------------------------------------------------------------------------------


def painted(disturbed: Disturbance) -> torch.Tensor:
    """Voxels that changed, in any channel."""
    return (disturbed.image != disturbed.target).any(1)


@pytest.mark.parametrize("grid", [(24, 30, 12), (8, 9, 10)])
def test_inpainting_fills_boxes_away_from_the_faces(grid: tuple[int, int, int]) -> None:
    disturbed = only(paint_probability=1.0, outpaint_share=0.0).transform(noise(60, 2, *grid))
    mask = painted(disturbed)
    assert torch.equal(mask, (disturbed.image != disturbed.target).all(1))
    for axis, side in enumerate(grid):
        inside = mask.movedim(axis + 1, 0)
        used = [n for n in range(side) if inside[n].any()]
        assert used[0] >= 3
        assert used[-1] < side - 3
    share = mask.flatten(1).float().mean(1)
    assert share.max() <= 5 / 27
    assert share.min() > 0 or (share == 0).float().mean() < 0.2


def test_outpainting_leaves_windows_that_may_touch_the_faces() -> None:
    grid = (14, 21, 28)
    disturbed = only(paint_probability=1.0, outpaint_share=1.0).transform(noise(60, 1, *grid))
    kept = ~painted(disturbed)
    shares = kept.flatten(1).float().mean(1)
    assert shares.min() >= (3 / 7) ** 3
    assert shares.max() < 0.75
    for axis in range(3):
        planes = kept.movedim(axis + 1, 0)
        assert planes[0].any()
        assert planes[-1].any()


@pytest.mark.parametrize(
    ("outpaint_share", "smallest", "largest", "fewest"),
    [(0.0, [2, 3, 4], [4, 7, 9], 0), (1.0, [6, 9, 12], [8, 12, 16], 1)],
)
def test_painted_boxes_and_windows_left_have_the_papers_sides(
    outpaint_share: float,
    smallest: list[int],
    largest: list[int],
    fewest: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sixth to a third of the patch, or three to four sevenths."""
    drawn = spied_boxes(monkeypatch)
    task = only(paint_probability=1.0, outpaint_share=outpaint_share)
    task.transform(noise(150, 1, 14, 21, 28))
    sides = torch.cat(drawn).diff(dim=-1).squeeze(-1)
    assert sides.amin(0).tolist() == smallest
    assert sides.amax(0).tolist() == largest
    counts = torch.tensor([len(boxes) for boxes in drawn])
    assert counts.amin() >= fewest
    assert counts.amax() == 5
    # Each is followed by another with probability 0.95.
    assert (counts == 5).float().mean() == pytest.approx(0.95 ** (5 - fewest), abs=0.1)


def test_noise_fills_the_range_of_each_channel() -> None:
    image = noise(1, 2, 32, 32, 32).image * torch.tensor([1.0, 9.0]).view(2, 1, 1, 1)
    disturbed = only(paint_probability=1.0, outpaint_share=1.0).transform(
        UnlabelledBatch(image=image, seed=0)
    )
    for channel in range(2):
        low, high = image[0, channel].aminmax()
        values = disturbed.image[0, channel][painted(disturbed)[0]]
        share = (values - low) / (high - low)
        assert share.histc(bins=10, min=0, max=1).min() > 0.08 * len(values)
    first, second = disturbed.image[0].flatten(1)[:, painted(disturbed)[0].flatten()]
    assert torch.corrcoef(torch.stack((first, second)))[0, 1].abs() < 0.05


def test_paintings_exclude_each_other_and_keep_their_shares() -> None:
    disturbed = only(paint_probability=0.9).transform(noise(400, 1, 14, 14, 14))
    share = painted(disturbed).flatten(1).float().mean(1)
    # Of one side of 14 voxels out-painting leaves 8 at most, in five windows.
    assert (share == 0).float().mean() == pytest.approx(0.1 + 0.9 * 0.2 * 0.05, abs=0.05)
    assert (share > 5 / 27).float().mean() == pytest.approx(0.9 * 0.8, abs=0.06)


# --- together ---------------------------------------------------------------------------------


def test_whatever_happens_stays_inside_the_range() -> None:
    image = structured_volumes(12, 20, seed=0).repeat(1, 2, 1, 1, 1)
    image[:, 1] *= -30
    disturbed = everything().transform(UnlabelledBatch(image=image, seed=5))
    voxels = (2, 3, 4)
    low, high = image.amin(voxels, keepdim=True), image.amax(voxels, keepdim=True)
    scaled = (disturbed.image - low) / (high - low)
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    assert (disturbed.image != disturbed.target).flatten(1).any(1).float().mean() > 0.8


def test_same_seed_same_disturbance() -> None:
    batch = noise(6, 1, 20, 20, 20)
    once, again = everything().transform(batch), everything().transform(batch)
    assert torch.equal(once.image, again.image)
    assert torch.equal(once.target, again.target)
    other = everything().transform(UnlabelledBatch(image=batch.image, seed=1))
    assert not torch.equal(once.image, other.image)
    assert batch.image.equal(noise(6, 1, 20, 20, 20).image), "the batch itself is left alone"


def test_the_layout_of_the_batch_is_kept() -> None:
    layout = torch.channels_last_3d
    batch = noise(2, 2, 20, 8, 8).to(torch.device("cpu"), layout=layout)
    disturbed = everything().transform(batch)
    assert disturbed.image.is_contiguous(memory_format=layout)
    plain = everything().transform(noise(2, 2, 20, 8, 8))
    assert torch.equal(disturbed.image, plain.image)


# --- loss -------------------------------------------------------------------------------------


class Output(nn.Module):
    """Gives what it was made with."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, _: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.output,)


def test_the_best_constant_has_a_value_for_each_channel() -> None:
    batch = noise(3, 2, 8, 8, 8)
    batch.image[:, 1] += 5
    target = everything().transform(batch).target
    mean = target.mean((0, 2, 3, 4), keepdim=True)
    score = everything().score(Output(mean.expand_as(target)), batch)
    assert score.loss == pytest.approx(score.trivial_loss, rel=1e-5)
    worse = everything().score(Output(mean.expand_as(target) + 0.1), batch)
    assert worse.loss == pytest.approx(score.loss + 0.01, rel=1e-4)


def test_mistakes_in_air_do_not_count_for_the_body() -> None:
    image = structured_volumes(2, 16, seed=0)
    batch = UnlabelledBatch(image=image, seed=0)
    target = everything().transform(batch).target
    body = body_voxels(target, inside=None)
    assert 0.1 < body.float().mean() < 0.9
    in_air = everything().score(Output(target + ~body), batch)
    assert in_air.body_loss == 0
    assert in_air.loss == pytest.approx((~body).float().mean().item())
    in_body = everything().score(Output(target + body), batch)
    assert in_body.body_loss == pytest.approx(1, rel=1e-5)
    assert in_body.loss == pytest.approx(body.float().mean().item())
    nothing = UnlabelledBatch(image=torch.zeros(1, 1, 8, 8, 8), seed=0)
    assert everything().score(Output(nothing.image), nothing).body_loss is None


def test_air_and_what_lies_outside_the_volume_are_no_body() -> None:
    image = torch.full((1, 2, 8, 8, 8), -2.0)
    image[0, 0, :2] = 3.0
    image[0, 1, 4] = 1.0
    image[:, :, 7] = 9.0  # brighter than any body, so that the range must not be that of padding
    inside = torch.ones(1, 1, 8, 8, 8, dtype=torch.bool)
    inside[:, :, 7] = False
    body = body_voxels(image, inside=inside)[0, 0]
    assert body[:2].all()
    assert body[4].all()
    assert not body[2:4].any()
    assert not body[5:].any()


def test_the_score_leaves_the_network_alone_and_the_loss_is_the_same() -> None:
    net = models_genesis_network(TINY, in_channels=1, patch=(20, 8, 8), seed=0).train()
    net.encoder[0].eval()  # as a frozen norm is
    modes = [module.training for module in net.modules()]
    batch = noise(1, 1, 20, 8, 8)
    score = everything().score(net, batch)
    assert [module.training for module in net.modules()] == modes
    assert all(parameter.grad is None for parameter in net.parameters())
    assert score.loss == pytest.approx(everything().loss(net, batch).item(), rel=1e-5)


def test_the_picture_is_of_the_first_patch() -> None:
    batch = noise(2, 1, 20, 8, 8)
    disturbed = everything().transform(batch)
    picture = everything().picture(Output(disturbed.target), batch)
    assert torch.equal(picture.shown, disturbed.image[0])
    assert torch.equal(picture.wanted, disturbed.target[0])
    assert torch.equal(picture.given, picture.wanted)
    is_same = (picture.shown == picture.wanted).all(dim=0)
    assert picture.changed.any()
    assert not (picture.changed & is_same).any()


# --- network ----------------------------------------------------------------------------------


def test_all_but_the_head_transfers_by_name() -> None:
    ours = describe(models_genesis_network(TINY, in_channels=2, patch=(16, 16, 16), seed=0))
    study = {
        tensor.name: tensor
        for tensor in describe(build_network(TINY, in_channels=2, num_classes=3))
    }
    body = [tensor for tensor in ours if tensor.kind is not TensorKind.HEAD]
    assert all(study[tensor.name] == tensor for tensor in body)
    left = {name for name, tensor in study.items() if tensor.kind is not TensorKind.HEAD}
    assert {tensor.name for tensor in body} == left
    assert [t.shape[0] for t in ours if t.kind is TensorKind.HEAD] == [2, 2]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_every_parameter_gets_a_gradient(precision: torch.dtype) -> None:
    net = models_genesis_network(TINY, in_channels=2, patch=(20, 8, 8), seed=0).train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision is torch.bfloat16):
        loss = everything().loss(net, noise(1, 2, 20, 8, 8))
    assert loss.dtype is torch.float32
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A bias before a norm layer is taken out again: its gradient is rounding only.
        assert name.endswith("conv.bias") or parameter.grad.abs().max() > 0, name


def test_a_few_steps_beat_the_best_constant_on_the_body_too() -> None:
    task: Pretext = everything()
    net = models_genesis_network(TINY, in_channels=1, patch=(20, 20, 20), seed=0)
    unseen = UnlabelledBatch(image=structured_volumes(6, 20, seed=1), seed=99)
    before = task.score(net, unseen)
    learn(task, net, images=structured_volumes(16, 20, seed=0), batch_size=2, steps=40, rate=2e-2)
    after = task.score(net, unseen)
    assert before.loss > after.trivial_loss
    assert after.loss < 0.3 * after.trivial_loss
    assert before.body_loss is not None
    assert after.body_loss is not None
    assert after.body_loss < 0.3 * before.body_loss


# --- checks -----------------------------------------------------------------------------------


def found(
    *, patch: tuple[int, int, int] = (64, 64, 64), network: Network = TINY, **keys: Any
) -> list[str]:
    section = ModelsGenesis(kind="models_genesis", **keys)
    return [
        f"{problem}"
        for problem in models_genesis_on(section, where="task", patch=patch, network=network)
    ]


def test_what_the_task_cannot_work_with_is_refused() -> None:
    assert found() == []
    assert found(patch=(20, 8, 8)) == []
    [thin] = found(patch=(19, 8, 8))
    assert thin.startswith("task.shuffle_probability: windows have sides up to a tenth")
    assert found(patch=(19, 8, 8), shuffle_probability=0.0) == []
    [idle] = found(**NOTHING)
    assert idle.startswith("task.kind: shuffle_probability, intensity_probability")
    [classes] = found(network=EVERY["densenet3d"].config)
    assert classes.startswith("network.kind: models_genesis wants values of each voxel")
