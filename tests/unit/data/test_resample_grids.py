import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.data.resample import grid_at_spacing, resample, resample_label, same_grid
from fedvol.errors import GeometryError


def oblique(spacing: tuple[float, float, float], origin: tuple[float, float, float]) -> np.ndarray:
    """A rotated grid: 20 degrees about k, then 10 about i."""
    a, b = np.deg2rad(20), np.deg2rad(10)
    about_k = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_i = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    out = np.eye(4)
    out[:3, :3] = about_i @ about_k @ np.diag(spacing)
    out[:3, 3] = origin
    return out


def millimetres(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(s) for s in shape], indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def ramp(shape: tuple[int, int, int], affine: np.ndarray) -> np.ndarray:
    """A quantity that is linear in millimetres."""
    return millimetres(shape, affine) @ np.array([0.5, -0.25, 1.0]) + 3.0


def inside(shape: tuple[int, int, int], affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    index = (points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    return ((index >= 0) & (index <= np.array(shape) - 1)).all(axis=-1)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(
    "affine_out",
    [
        np.diag([1.3, 0.7, 2.0, 1.0]),
        oblique((1.1, 1.4, 1.9), (1.0, 2.0, 3.0)),
        np.diag([-1.0, 1.0, 2.0, 1.0]) + np.array([[0, 0, 0, 9.0]] + [[0, 0, 0, 0]] * 3),
    ],
    ids=["other spacing", "oblique", "mirrored"],
)
def test_a_ramp_in_millimetres_stays_that_ramp(affine_out, order):
    shape, affine = (16, 15, 14), np.diag([1.0, 1.0, 1.5, 1.0])
    shape_out = (8, 9, 7)

    out = resample(
        ramp(shape, affine)[np.newaxis].astype(np.float32),
        affine=affine,
        shape_out=shape_out,
        affine_out=affine_out,
        order=order,
    )

    points = millimetres(shape_out, affine_out)
    within = inside(shape, affine, points)
    if order == 3:  # the spline bends beside the edge
        shrunk = affine.copy()
        shrunk[:3, 3] += affine[:3, :3] @ np.full(3, 4.0)
        within = inside((8, 7, 6), shrunk, points)
    assert within.sum() > 10
    tolerance = 1e-5 if order == 1 else 0.03
    np.testing.assert_allclose(
        out[0][within], ramp(shape_out, affine_out)[within], atol=tolerance, rtol=tolerance
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 3]))
def test_the_same_grid_keeps_every_bit(seed, order):
    array = np.random.default_rng(seed).normal(size=(2, 4, 5, 3)).astype(np.float32)
    affine = oblique((0.8, 0.9, 3.0), (5.0, -2.0, 1.0))

    out = resample(array, affine=affine, shape_out=(4, 5, 3), affine_out=affine, order=order)

    assert out.tobytes() == array.tobytes()
    assert not np.shares_memory(out, array)


def test_a_shift_by_whole_voxels_is_a_crop():
    array = np.random.default_rng(0).normal(size=(1, 9, 8, 7)).astype(np.float32)
    affine = oblique((0.7, 0.7, 2.5), (10.0, -20.0, 30.0))
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ np.array([2, 1, 3]) + affine[:3, 3]

    out = resample(array, affine=affine, shape_out=(5, 5, 4), affine_out=moved)

    np.testing.assert_array_equal(out[0], array[0, 2:7, 1:6, 3:7])


def test_beyond_the_edge_the_nearest_value_continues():
    array = np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1) + np.zeros((1, 4, 3, 3), np.float32)
    far = np.eye(4)
    far[0, 3] = 10

    out = resample(array, affine=np.eye(4), shape_out=(2, 3, 3), affine_out=far)

    np.testing.assert_array_equal(out, 3)


def test_channels_do_not_mix():
    array = np.stack([np.zeros((6, 6, 6)), np.ones((6, 6, 6))]).astype(np.float32)

    out = resample(
        array, affine=np.eye(4), shape_out=(4, 4, 4), affine_out=np.diag([1.4, 1.4, 1.4, 1])
    )

    np.testing.assert_array_equal(out[0], 0)
    np.testing.assert_allclose(out[1], 1)


def test_a_singular_affine_is_refused():
    with pytest.raises(GeometryError):
        resample(
            np.zeros((1, 3, 3, 3), np.float32),
            affine=np.diag([1.0, 0.0, 1.0, 1.0]),
            shape_out=(3, 3, 3),
            affine_out=np.diag([1.0, 2.0, 1.0, 1.0]),
        )


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.integers(1, 30)] * 3),
    st.tuples(*[st.floats(0.3, 6)] * 3),
    st.tuples(*[st.floats(0.3, 6)] * 3),
)
def test_a_grid_at_another_spacing_keeps_axes_centre_and_extent(shape, old, new):
    affine = oblique(old, (3.0, -7.0, 11.0))

    out_shape, out = grid_at_spacing(shape, affine=affine, spacing_mm=new)

    np.testing.assert_allclose(np.linalg.norm(out[:3, :3], axis=0), new, rtol=1e-9)
    np.testing.assert_allclose(
        out[:3, :3] / np.asarray(new), affine[:3, :3] / np.asarray(old), atol=1e-9
    )
    centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    centre_out = out[:3, :3] @ ((np.array(out_shape) - 1) / 2) + out[:3, 3]
    np.testing.assert_allclose(centre_out, centre, atol=1e-9)
    gap_mm = np.abs(np.array(out_shape) * new - np.array(shape) * old)
    assert (gap_mm <= np.array(new) * 0.5 + 1e-9)[np.array(out_shape) > 1].all()


def test_a_label_box_keeps_its_place_and_size_in_millimetres():
    label = np.zeros((20, 20, 20), np.uint8)
    label[4:12, 4:12, 4:12] = 2
    shape_out, affine_out = grid_at_spacing(
        (20, 20, 20), affine=np.eye(4), spacing_mm=(0.5, 0.5, 2.0)
    )

    out = resample_label(label, affine=np.eye(4), shape_out=shape_out, affine_out=affine_out)

    assert set(np.unique(out)) == {0, 2}
    volume_mm3 = (out == 2).sum() * 0.5 * 0.5 * 2.0
    assert volume_mm3 == pytest.approx(512, rel=0.1)
    centre = millimetres(shape_out, affine_out)[out == 2].mean(axis=0)
    np.testing.assert_allclose(centre, 7.5, atol=0.26)


def test_labels_stay_labels_and_the_same_grid_keeps_them():
    label = np.random.default_rng(1).integers(0, 4, (6, 7, 8)).astype(np.uint8)

    same = resample_label(label, affine=np.eye(4), shape_out=(6, 7, 8), affine_out=np.eye(4))
    other = resample_label(
        label, affine=np.eye(4), shape_out=(5, 5, 5), affine_out=np.diag([1.3, 1.3, 1.3, 1])
    )

    np.testing.assert_array_equal(same, label)
    assert other.dtype == np.uint8
    assert set(np.unique(other)) <= {0, 1, 2, 3}


def test_grids_differ_by_shape_or_by_place():
    assert same_grid((3, 3, 3), np.eye(4), (3, 3, 3), np.eye(4))
    assert not same_grid((3, 3, 3), np.eye(4), (3, 3, 4), np.eye(4))
    assert not same_grid((300, 3, 3), np.eye(4), (300, 3, 3), np.diag([1.00001, 1, 1, 1]))
