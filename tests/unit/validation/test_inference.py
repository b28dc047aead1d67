"""Sliding window, mirroring and ensembles, on networks whose answer is known."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedvol.errors import TrainingDivergedError
from fedvol.validation.inference import SlidingWindow, ensemble, predict, single

torch.set_num_threads(1)


class Pointwise(nn.Module):
    """Two logits from each voxel alone: windows and mirrors cannot matter."""

    def __init__(self, *, slope: float = 1.5) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        assert not self.training
        self.sizes.append(tuple(x.shape))
        return torch.cat([x * 0, x * self.slope - 0.3], dim=1), x.mean()


class Ramp(nn.Module):
    """Logits that grow along one axis of the window: anything but equivariant."""

    def forward(self, x: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, x.shape[2])[None, None, :, None, None]
        return torch.cat([x + ramp, -x], dim=1)


def window(**changes) -> SlidingWindow:
    settings = {"patch": (8, 8, 8), "overlap": 0.5, "mirror_axes": (), "device": "cpu"}
    return SlidingWindow(**(settings | changes))


def image(*shape: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)


def pointwise_answer(volume: np.ndarray, *, slope: float = 1.5) -> np.ndarray:
    odds = np.exp(volume[0].astype(np.float64) * slope - 0.3)
    return np.stack([1 / (1 + odds), odds / (1 + odds)])


@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 7, 8), (1, 3, 2), (12, 9, 20), (6, 17, 8)])
@pytest.mark.parametrize("mirror_axes", [(), (0,), (0, 1, 2)])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_pointwise_network_is_not_changed_by_windows(shape, mirror_axes, batch) -> None:
    volume = image(*shape)
    found = predict(Pointwise(), image=volume, window=window(mirror_axes=mirror_axes, batch=batch))
    assert found.shape == (2, *shape)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, pointwise_answer(volume), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)


def test_a_volume_within_the_patch_takes_one_window() -> None:
    net = Pointwise()
    predict(net, image=image(5, 8, 3), window=window())
    assert net.sizes == [(1, 1, 8, 8, 8)]


def test_windows_come_in_batches() -> None:
    net = Pointwise()
    predict(net, image=image(16, 8, 8), window=window(batch=2))
    assert [size[0] for size in net.sizes] == [2, 1]


@pytest.mark.parametrize("mirror_axes", [(0,), (2, 1), (0, 1, 2)])
def test_mirroring_averages_over_all_subsets_each_turned_back(mirror_axes) -> None:
    volume = image(8, 8, 8)
    subsets = [
        subset
        for size in range(len(mirror_axes) + 1)
        for subset in itertools.combinations(mirror_axes, size)
    ]
    expected = np.zeros((2, 8, 8, 8))
    for subset in subsets:
        axes = tuple(axis + 1 for axis in subset)
        flipped = np.flip(volume, axis=axes) if axes else volume
        plain = predict(Ramp(), image=flipped, window=window())
        expected += np.flip(plain, axis=axes) if axes else plain
    found = predict(Ramp(), image=volume, window=window(mirror_axes=mirror_axes))
    np.testing.assert_allclose(found, expected / len(subsets), atol=1e-6)
    assert len(subsets) == 2 ** len(mirror_axes)


def test_mirroring_an_equivariant_network_changes_nothing() -> None:
    """A convolution whose kernel is its own mirror image along every axis."""
    net = nn.Conv3d(1, 3, 3, padding=1)
    weight = net.weight.data
    net.weight.data = sum(weight.flip(axes) for axes in ([], [2], [3], [2, 3])) / 4
    net.weight.data = (net.weight.data + net.weight.data.flip(4)) / 2
    volume = image(8, 8, 8)
    plain = predict(net, image=volume, window=window())
    mirrored = predict(net, image=volume, window=window(mirror_axes=(0, 1, 2)))
    np.testing.assert_allclose(mirrored, plain, atol=1e-6)
    assert np.ptp(plain) > 0.1


def test_mirroring_a_network_that_is_not_equivariant_matters() -> None:
    volume = image(8, 8, 8)
    plain = predict(Ramp(), image=volume, window=window())
    mirrored = predict(Ramp(), image=volume, window=window(mirror_axes=(0,)))
    assert np.abs(plain - mirrored).max() > 0.1
    along_others = predict(Ramp(), image=volume, window=window(mirror_axes=(1, 2)))
    np.testing.assert_allclose(along_others, plain, atol=1e-6)


def test_windows_weigh_most_in_their_middle() -> None:
    """Ramp's answer at a window's edge is off by the most; blending must favour the middle."""
    flat = np.zeros((1, 12, 8, 8), dtype=np.float32)
    found = predict(Ramp(), image=flat, window=window())[0, :, 4, 4]
    ramp = 1 / (1 + np.exp(-np.linspace(-1, 1, 8)))
    assert abs(found[5] - ramp[5]) < abs(found[5] - ramp[1])  # 5 is near the first one's middle
    assert abs(found[7] - ramp[3]) < abs(found[7] - ramp[7])  # 7 is near the second one's


def test_the_answer_is_the_same_every_time() -> None:
    net = nn.Conv3d(2, 3, 3, padding=1)
    volume = image(11, 9, 10, channels=2)
    settings = window(mirror_axes=(0, 1, 2), batch=2)
    one, other = (predict(net, image=volume, window=settings) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_the_image_may_be_read_only_and_is_not_changed() -> None:
    volume = image(9, 8, 8)
    before = volume.copy()
    volume.flags.writeable = False
    predict(Pointwise(), image=volume, window=window())
    np.testing.assert_array_equal(volume, before)


def test_each_module_gets_its_mode_back() -> None:
    net = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Dropout(0.5))
    net.train()
    net[1].eval()
    predict(net, image=image(8, 8, 8), window=window())
    assert [module.training for module in net.modules()] == [True, True, False, True]
    assert int(net[1].num_batches_tracked) == 0


def test_ensemble_is_the_mean_of_probabilities() -> None:
    volume = image(9, 8, 8)
    nets = [Pointwise(slope=slope) for slope in (0.5, 1.0, 4.0)]
    found = ensemble(nets, window=window())(volume)
    expected = np.mean([pointwise_answer(volume, slope=s) for s in (0.5, 1.0, 4.0)], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    alone = ensemble(nets[:1], window=window())(volume)
    np.testing.assert_array_equal(alone, single(nets[0], window=window())(volume))


def test_an_ensemble_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a network"):
        ensemble([], window=window())


def test_a_broken_network_is_named() -> None:
    with pytest.raises(TrainingDivergedError):
        predict(Pointwise(slope=float("nan")), image=image(8, 8, 8), window=window())
