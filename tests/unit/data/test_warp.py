"""Rotation, zoom and low resolution, against their meaning and PyTorch's generic kernels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from fedvol.data import warp
from fedvol.data.batch import Batch
from fedvol.data.warp import lower_resolution, move, transform

torch.set_num_threads(1)

SHAPES = st.tuples(*[st.integers(1, 13)] * 3)
ANGLES = st.tuples(*[st.floats(-180, 180)] * 3)


def some_batch(batch_size: int = 3, shape=(9, 11, 10), channels: int = 2) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        image=torch.from_numpy(rng.normal(size=(batch_size, channels, *shape)).astype(np.float32)),
        label=torch.from_numpy(rng.integers(0, 4, (batch_size, *shape))),
    )


def ramp(shape: tuple[int, ...], channels: int = 2) -> Tensor:
    """Smooth, so that rounding of a position shows as rounding of a value."""
    axes = torch.meshgrid(*[torch.arange(float(side)) for side in shape], indexing="ij")
    return torch.stack(
        [(c + 1) + axes[0] - 0.5 * axes[1] + 0.25 * axes[2] for c in range(channels)]
    )


def sampled(image: Tensor, matrix: Tensor, *, mode: str) -> Tensor:
    """The same by `grid_sample`, in float64; its axes are k, j, i, in units of half a side."""
    half = (torch.tensor(image.shape[1:], dtype=torch.float64) - 1) / 2
    half = half.clamp(min=1e-9)
    theta = (matrix * half[None, :] / half[:, None]).flip(0, 1)
    theta = torch.cat([theta, torch.zeros(3, 1, dtype=torch.float64)], dim=1)[None]
    grid = functional.affine_grid(theta, [1, 1, *image.shape[1:]], align_corners=True)
    return functional.grid_sample(image[None].double(), grid, mode=mode, align_corners=True)[0]


def clear(shape: tuple[int, ...], *, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Voxels whose source is no rounding error away from an edge of the patch, or from a tie."""
    half = [(side - 1) / 2 for side in shape]
    steps = [
        torch.arange(side, dtype=torch.float64) - middle
        for side, middle in zip(shape, half, strict=True)
    ]
    axes = torch.stack(torch.meshgrid(*steps, indexing="ij")).view(3, -1)
    limit = torch.tensor(half, dtype=torch.float64).view(3, 1, 1, 1)
    at = (matrix @ axes).view(3, *shape)
    beyond = at.abs() - limit
    is_clear = ((beyond.abs() > 1e-4) & ((beyond - 1).abs() > 1e-4)).all(0)
    to_tie = ((at + limit).frac().abs() - 0.5).abs()
    return is_clear, is_clear & (to_tie > 1e-4).all(0)


@given(shape=st.tuples(*[st.integers(2, 13)] * 3), angles=ANGLES, zoom=st.floats(0.4, 2.5))
@settings(max_examples=60, deadline=None)
def test_rotation_with_zoom_is_grid_sample(shape, angles, zoom) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, *shape, generator=generator)
    label = torch.randint(0, 4, shape, generator=generator).to(torch.uint8)
    matrix = warp._rotation(torch.tensor(angles)).T / zoom
    expected = sampled(image, matrix, mode="bilinear")

    found, classes = transform(image, label, matrix=matrix)

    is_clear, is_clear_of_ties = clear(shape, matrix=matrix)
    torch.testing.assert_close(
        found[:, is_clear].double(), expected[:, is_clear], atol=2e-4, rtol=0
    )
    nearest = sampled(label[None].float(), matrix, mode="nearest")[0]
    assert torch.equal(classes[is_clear_of_ties].double(), nearest[is_clear_of_ties])


@given(shape=SHAPES, zoom=st.floats(0.4, 2.5))
@settings(max_examples=40, deadline=None)
def test_zoom_alone_is_the_general_transform(shape, zoom) -> None:
    """Axis by axis without rotation; on a ramp both are exact inside, and both are 0 outside."""
    image = ramp(shape)
    label = (image[0] > 2).to(torch.uint8)

    found, classes = move(image, label, rotation_deg=torch.zeros(3), zoom=zoom)

    matrix = torch.eye(3, dtype=torch.float64) / zoom
    expected, nearest = transform(image, label, matrix=matrix)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    _, is_clear_of_ties = clear(shape, matrix=matrix)
    assert torch.equal(classes[is_clear_of_ties], nearest[is_clear_of_ties])


def test_slabs_do_not_change_a_bit(monkeypatch) -> None:
    batch = some_batch(1)
    angles = torch.tensor([10.0, -20.0, 30.0])
    whole = move(batch.image[0], batch.label[0], rotation_deg=angles, zoom=1.2)

    monkeypatch.setattr(warp, "_SLAB_VOXELS", 1)
    planes = move(batch.image[0], batch.label[0], rotation_deg=angles, zoom=1.2)

    assert torch.equal(whole[0], planes[0])
    assert torch.equal(whole[1], planes[1])


@given(shape=SHAPES, factor=st.floats(0.3, 1.0))
@settings(max_examples=40, deadline=None)
def test_low_resolution_is_interpolate_twice(shape, factor) -> None:
    image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    small = [max(1, round(side * factor)) for side in shape]
    coarse = functional.interpolate(image[None], size=small, mode="nearest-exact")
    expected = functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=False)[0]

    torch.testing.assert_close(lower_resolution(image, factor=factor), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quarter_turn_of_a_cube_is_rot90(axis):
    batch = some_batch(1, shape=(9, 9, 9))
    angles = torch.zeros(3)
    angles[axis] = 90.0
    plane = ((axis + 1) % 3, (axis + 2) % 3)

    image, label = move(batch.image[0], batch.label[0], rotation_deg=angles, zoom=1.0)

    expected = torch.rot90(batch.image[0], 1, (plane[0] + 1, plane[1] + 1))
    assert torch.equal(label, torch.rot90(batch.label[0], 1, plane))
    torch.testing.assert_close(image, expected, atol=1e-4, rtol=0)


def test_angles_apply_about_i_then_j_then_k():
    batch = some_batch(1, shape=(9, 9, 9))
    image, label = batch.image[0], batch.label[0]

    _, together = move(image, label, rotation_deg=torch.tensor([90.0, 90.0, 90.0]), zoom=1.0)

    step = torch.rot90(torch.rot90(torch.rot90(label, 1, (1, 2)), 1, (2, 0)), 1, (0, 1))
    assert torch.equal(together, step)


def test_rotation_is_rigid_in_voxels_whatever_the_sides_of_the_patch():
    # A ball stays a ball of the same size: a rotation in normalised units would stretch it.
    shape = (24, 48, 32)
    axes = [torch.arange(side) - (side - 1) / 2 for side in shape]
    i, j, k = torch.meshgrid(*axes, indexing="ij")
    ball = ((i**2 + (j - 4) ** 2 + k**2) <= 49).long()

    _, moved = move(
        ball[None].float(), ball, rotation_deg=torch.tensor([25.0, -30.0, 40.0]), zoom=1.0
    )

    points = moved.nonzero().float()
    extent = points.max(0).values - points.min(0).values
    assert int(moved.sum()) == pytest.approx(int(ball.sum()), rel=0.03)
    assert torch.all((extent - 14).abs() <= 1)
    distance = (points.mean(0) - torch.tensor([(side - 1) / 2 for side in shape])).norm()
    assert float(distance) == pytest.approx(4.0, abs=0.15)


@pytest.mark.parametrize("zoom", [0.7, 1.4])
def test_zoom_scales_a_ball_about_the_centre(zoom):
    axes = [torch.arange(side) - (side - 1) / 2 for side in (32, 40, 36)]
    i, j, k = torch.meshgrid(*axes, indexing="ij")
    ball = ((i**2 + j**2 + k**2) <= 81).long()

    _, moved = move(ball[None].float(), ball, rotation_deg=torch.zeros(3), zoom=zoom)

    assert int(moved.sum()) == pytest.approx(int(ball.sum()) * zoom**3, rel=0.05)


def test_image_and_label_move_together():
    axes = [torch.arange(side) - (side - 1) / 2 for side in (20, 26, 22)]
    i, j, k = torch.meshgrid(*axes, indexing="ij")
    ball = (((i - 3) ** 2 + (j + 2) ** 2 + (k - 1) ** 2) <= 36).long()

    image, label = move(
        ball[None].float(), ball, rotation_deg=torch.tensor([10.0, 20.0, -30.0]), zoom=1.2
    )

    disagree = ((image[0] > 0.5).long() != label).sum()
    assert int(disagree) < 0.06 * int(label.sum())


def test_beyond_the_patch_is_zero_and_background():
    image, label = torch.full((1, 10, 10, 10), 5.0), torch.full((10, 10, 10), 2)

    moved, classes = move(image, label, rotation_deg=torch.zeros(3), zoom=0.5)

    assert moved[0, 0, 0, 0] == 0
    assert classes[0, 0, 0] == 0
    assert moved[0, 5, 5, 5] == 5
    assert classes[5, 5, 5] == 2


def test_low_resolution_loses_detail_but_not_a_constant():
    image = some_batch(1, shape=(16, 18, 20)).image[0]

    out = lower_resolution(image, factor=0.5)

    assert out.shape == image.shape
    assert out.std() < image.std() * 0.8
    torch.testing.assert_close(
        lower_resolution(torch.full_like(image, 3.0), factor=0.5), torch.full_like(image, 3.0)
    )
