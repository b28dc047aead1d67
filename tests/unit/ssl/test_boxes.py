"""Boxes at random: their sides, their places, and that they fit."""

import pytest
import torch

from fedvol.ssl.boxes import draw_boxes, slices


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_sides_and_places_reach_both_ends_and_no_further() -> None:
    grid, smallest, largest, border = (9, 12, 30), (1, 2, 4), (3, 2, 9), 2
    boxes = draw_boxes(
        4000,
        grid=grid,
        smallest=smallest,
        largest=largest,
        border=border,
        generator=generator(),
    )
    first, side = boxes[..., 0], boxes[..., 1] - boxes[..., 0]
    assert tuple(side.amin(0).tolist()) == smallest
    assert tuple(side.amax(0).tolist()) == largest
    assert first.amin(0).tolist() == [border] * 3
    assert boxes[..., 1].amax(0).tolist() == [n - border for n in grid]


def test_sides_and_places_are_uniform() -> None:
    boxes = draw_boxes(
        20_000, grid=(5, 5, 5), smallest=(1, 1, 2), largest=(4, 5, 2), generator=generator()
    )
    side = boxes[..., 1] - boxes[..., 0]
    shares = side[:, 0].bincount(minlength=5)[1:] / len(boxes)
    torch.testing.assert_close(shares, torch.full((4,), 1 / 4), rtol=0, atol=0.02)
    places = boxes[:, 2, 0].bincount() / len(boxes)
    torch.testing.assert_close(places, torch.full((4,), 1 / 4), rtol=0, atol=0.02)


def test_no_box_is_no_box() -> None:
    boxes = draw_boxes(
        0, grid=(8, 8, 8), smallest=(1, 1, 1), largest=(2, 2, 2), generator=generator()
    )
    assert slices(boxes) == []


@pytest.mark.parametrize(
    ("smallest", "largest", "border"), [((3, 3, 3), (2, 3, 3), 0), ((1, 1, 1), (6, 6, 6), 2)]
)
def test_boxes_that_do_not_fit_are_refused(
    smallest: tuple[int, int, int], largest: tuple[int, int, int], border: int
) -> None:
    with pytest.raises(ValueError, match="larger than its room"):
        draw_boxes(
            50,
            grid=(8, 8, 8),
            smallest=smallest,
            largest=largest,
            border=border,
            generator=generator(),
        )
