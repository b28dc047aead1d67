"""Dropout that follows from the batch."""

import pytest
import torch

from fedvol.models.seeded_dropout import SeededDropout, draw_of

ONES = torch.ones(64, 40, 40)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw(seed: int = 0) -> torch.Tensor:
    return draw_of(noise(2, 1, 4, 4, 4, seed=seed))


def kept(share: float = 0.2, *, layer: int = 0, seed: int = 0) -> torch.Tensor:
    return SeededDropout(share, layer=layer)(ONES, draw(seed)) != 0


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_drops_its_share_and_scales_the_rest(share: float, seed: int) -> None:
    dropped = SeededDropout(share, layer=3)(ONES, draw(seed))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - share)])
    # 102,400 values: five standard deviations are below 0.008
    assert (dropped == 0).float().mean().item() == pytest.approx(share, abs=0.008)
    assert (dropped == 0).float().mean((1, 2)).std() < 0.05


def test_another_batch_and_another_layer_drop_other_values() -> None:
    first = kept()
    assert torch.equal(first, kept())
    for other in (kept(seed=1), kept(layer=1), kept(layer=2)):
        both = (~first & ~other).float().mean().item()
        assert both == pytest.approx(0.2**2, abs=0.005)  # independent


def test_neighbours_are_independent() -> None:
    dropped = (~kept()).flatten()
    for step in (1, 2, 40, 1600):
        both = (dropped[:-step] & dropped[step:]).float().mean().item()
        assert both == pytest.approx(0.2**2, abs=0.005)


def test_whole_samples_are_dropped_together() -> None:
    x = torch.ones(4000, 2, 3)
    out = SeededDropout(0.25, layer=0, whole_samples=True)(x, draw())
    by_sample = (out == 0).flatten(1).float().mean(1)
    assert set(by_sample.tolist()) == {0, 1}
    assert by_sample.mean().item() == pytest.approx(0.25, abs=0.035)


def test_nothing_is_dropped_without_a_draw_or_a_share() -> None:
    assert SeededDropout(0.5, layer=0)(ONES, None) is ONES
    assert SeededDropout(0.0, layer=0)(ONES, draw()) is ONES


def test_a_batch_draws_the_same_in_every_layout_and_precision_of_the_layers() -> None:
    image = noise(2, 3, 4, 5, 6)
    other = image.to(memory_format=torch.channels_last_3d)
    assert torch.equal(draw_of(image), draw_of(other))
    layer = SeededDropout(0.3, layer=1)
    x = noise(2, 8, 4, 4, 4)
    full = layer(x, draw()) == 0
    assert torch.equal(full, layer(x.to(memory_format=torch.channels_last_3d), draw()) == 0)
    half = layer(x.bfloat16(), draw())
    assert half.dtype is torch.bfloat16
    assert torch.equal(full, half == 0)


def test_neighbouring_draws_drop_other_values() -> None:
    layer = SeededDropout(0.5, layer=0)
    one, other = (layer(ONES, torch.tensor(number)) != 0 for number in (7, 8))
    assert (one == other).float().mean().item() == pytest.approx(0.5, abs=0.01)
    high = layer(ONES, torch.tensor(7 + (1 << 40))) != 0
    assert (one == high).float().mean().item() == pytest.approx(0.5, abs=0.01)
