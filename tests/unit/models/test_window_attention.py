"""Windowed attention against attention over all positions with everything else masked."""

from itertools import count, product

import pytest
import torch

from fedvol.models.window_attention import (
    WINDOW,
    WindowAttention,
    WindowPair,
    merge_windows,
    relative_positions,
    split_windows,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def attention(*, channels: int = 8, num_heads: int = 2) -> WindowAttention:
    module = WindowAttention(channels, num_heads=num_heads, dropout=0.0, layers=count())
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=number) * 0.3)
    return module


def test_every_step_between_two_positions_has_a_number_of_its_own() -> None:
    numbers = relative_positions(WINDOW)
    assert numbers.unique().tolist() == list(range((2 * WINDOW - 1) ** 3))


def test_equal_steps_have_one_number() -> None:
    numbers = relative_positions(3)
    places = list(product(range(3), repeat=3))
    by_step: dict[tuple[int, ...], set[int]] = {}
    for (a, one), (b, other) in product(enumerate(places), repeat=2):
        step = tuple(x - y for x, y in zip(one, other, strict=True))
        by_step.setdefault(step, set()).add(int(numbers[a, b]))
    assert len(by_step) == 5**3
    assert all(len(found) == 1 for found in by_step.values())
    assert by_step[(-2, -2, -2)] == {0}
    assert by_step[(-2, -2, -1)] == {1}
    assert by_step[(-2, -1, -2)] == {5}
    assert by_step[(-1, -2, -2)] == {25}


def test_windows_are_blocks_of_the_grid_and_come_together_again() -> None:
    grid = (2 * WINDOW, WINDOW, 3 * WINDOW)
    x = noise(2, *grid, 4)
    windows = split_windows(x)
    assert windows.shape == (12, WINDOW**3, 4)
    second = x[0, :WINDOW, :WINDOW, WINDOW : 2 * WINDOW].reshape(-1, 4)
    assert torch.equal(windows[1], second)
    assert torch.equal(merge_windows(windows, grid=grid), x)


def everywhere(
    module: WindowAttention, x: torch.Tensor, *, shift: tuple[int, int, int]
) -> torch.Tensor:
    """The same attention over every two positions of a padded grid, windows found by division."""
    grid = x.shape[1:4]
    padded = [-(-side // WINDOW) * WINDOW for side in grid]
    whole = torch.zeros(len(x), *padded, x.shape[-1])
    whole[:, : grid[0], : grid[1], : grid[2]] = x
    places = torch.tensor(list(product(*map(range, padded))))
    window = (places - torch.tensor(shift)) // WINDOW
    together = (window[:, None] == window[None]).all(-1)
    steps = (places[:, None] - places[None]).clamp(1 - WINDOW, WINDOW - 1) + WINDOW - 1
    bias = module.position_bias.view(*[2 * WINDOW - 1] * 3, -1)[steps.unbind(-1)]
    tokens = whole.flatten(1, 3)
    heads = module.num_heads
    q, k, v = module.query_key_value(tokens).view(*tokens.shape[:2], 3, heads, -1).unbind(2)
    logits = torch.einsum("bthc,bshc->bhts", q, k) / q.shape[-1] ** 0.5
    logits = (logits + bias.permute(2, 0, 1)).masked_fill(~together, -torch.inf)
    mixed = torch.einsum("bhts,bshc->bthc", logits.softmax(-1), v).flatten(2)
    out = module.project(mixed).view(len(x), *padded, -1)
    return out[:, : grid[0], : grid[1], : grid[2]]


@pytest.mark.parametrize(
    ("grid", "shift"),
    [
        ((6, 6, 6), (0, 0, 0)),
        ((12, 6, 6), (3, 0, 0)),
        ((8, 7, 3), (0, 0, 0)),
        ((8, 7, 3), (3, 3, 0)),
        ((5, 12, 9), (0, 3, 3)),
    ],
)
def test_windows_attend_as_all_positions_would(
    grid: tuple[int, int, int], shift: tuple[int, int, int]
) -> None:
    module = attention()
    x = noise(2, *grid, 8)
    found = module(x, shift=shift, draw=None)
    torch.testing.assert_close(found, everywhere(module, x, shift=shift), rtol=1e-4, atol=1e-5)


def test_a_pair_sees_across_windows_only_where_the_grid_has_several() -> None:
    pair = WindowPair(8, num_heads=2, dropout=0.0, drop_path=0.0, layers=count())
    shifts: list[tuple[int, ...]] = []
    for block in pair.blocks:
        block.attention.register_forward_pre_hook(
            lambda module, args, kwargs: shifts.append(kwargs["shift"]), with_kwargs=True
        )
    x = noise(1, 12, 4, 7, 8)
    other = x.clone()
    other[0, 5, 0, 0] += 1
    moved = (pair(x, None) != pair(other, None)).any(-1)[0]
    assert shifts == [(0, 0, 0), (3, 0, 3)] * 2
    assert moved[6].any()  # the neighbour beyond the window's border
    assert not moved[9:].any()  # beyond the shifted window too


def test_the_two_ends_of_an_axis_do_not_see_each_other() -> None:
    module = attention()
    x = noise(1, 12, 6, 6, 8)
    other = x.clone()
    other[0, 0] += 1
    moved = module(x, shift=(3, 0, 0), draw=None) != module(other, shift=(3, 0, 0), draw=None)
    assert moved.any(-1)[0, :3].all()
    assert not moved[0, 3:].any()
