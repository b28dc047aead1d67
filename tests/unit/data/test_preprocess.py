import numpy as np
import pytest

from fedvol.config.data import Normalisation, Preprocessing, Window, ZScore
from fedvol.data.preprocess import MAX_FOREGROUND_VOXELS, normalise, prepare
from fedvol.data.volume import Volume
from fedvol.errors import (
    ConstantVolumeError,
    NonFiniteVoxelError,
    UnknownLabelError,
)

Z_SCORE = ZScore(kind="z_score")


def lut(**classes: int) -> np.ndarray:
    out = np.zeros(256, np.uint8)
    for value, index in classes.items():
        out[int(value.removeprefix("v"))] = index
    return out


LUT = lut(v3=1, v7=2)


def config(
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0), normalisation: Normalisation = Z_SCORE
) -> Preprocessing:
    return Preprocessing(spacing_mm=spacing_mm, normalisation=normalisation)


def volume(
    shape: tuple[int, ...] = (2, 6, 7, 8), spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Volume:
    rng = np.random.default_rng(0)
    array = rng.normal(loc=500, scale=120, size=shape).astype(np.float32)
    return Volume(array=array, affine=np.diag([*spacing, 1.0]))


def test_z_score_gives_each_channel_mean_zero_and_deviation_one():
    array = volume().array * np.array([1, 1e5])[:, None, None, None].astype(np.float32)

    out = normalise(array, config=Z_SCORE)

    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean(axis=(1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(out.std(axis=(1, 2, 3)), 1, atol=1e-6)


def test_z_score_ignores_scale_and_offset_of_the_scanner():
    array = volume().array

    np.testing.assert_allclose(
        normalise(array * 50 + 1000, config=Z_SCORE), normalise(array, config=Z_SCORE), atol=1e-4
    )


def test_foreground_only_leaves_the_minimum_out_of_the_moments():
    array = volume().array
    array[:, :3] = -1000

    out = normalise(array, config=ZScore(kind="z_score", foreground_only=True))

    np.testing.assert_allclose(out[:, 3:].mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out[:, 3:].std(axis=(1, 2, 3)), 1, atol=1e-5)


def test_a_window_becomes_minus_one_to_one():
    array = np.array([-3000, -200, 0, 50, 300, 4000], np.float32).reshape(1, 6, 1, 1)

    out = normalise(array, config=Window(kind="window", window_hu=(-200.0, 300.0)))

    np.testing.assert_allclose(out.ravel(), [-1, -1, -0.2, 0, 1, 1], atol=1e-6)


@pytest.mark.parametrize(
    "normalisation",
    [
        Z_SCORE,
        ZScore(kind="z_score", foreground_only=True),
        Window(kind="window", window_hu=(0.0, 5.0)),
    ],
)
def test_an_image_without_contrast_is_refused_by_name(normalisation):
    array = np.full((1, 4, 4, 4), 7, np.float32)

    with pytest.raises(ConstantVolumeError, match="a/0042, channel 0"):
        normalise(array, config=normalisation, where="a/0042")


def test_a_non_finite_voxel_is_refused():
    array = volume().array
    array[1, 2, 3, 4] = np.nan

    with pytest.raises(NonFiniteVoxelError, match="channel 1"):
        normalise(array, config=Z_SCORE)


def test_the_study_spacing_keeps_grid_and_label_bit_for_bit():
    image = volume(spacing=(1.00005, 1.0, 1.0))
    label = np.random.default_rng(1).choice([0, 3, 7], (6, 7, 8))

    out = prepare(image, label, config=config(), lut=LUT, num_classes=3)

    assert out.image.tobytes() == normalise(image.array, config=Z_SCORE).tobytes()
    np.testing.assert_array_equal(out.affine, image.affine)
    np.testing.assert_array_equal(out.label, LUT[label])
    np.testing.assert_array_equal(out.reference_label, LUT[label])


def test_another_spacing_resamples_image_and_label_but_not_the_reference():
    image = volume((1, 12, 12, 6), spacing=(1.0, 1.0, 3.0))
    label = np.zeros((12, 12, 6), np.int16)
    label[2:8, 2:8, 1:4] = 7

    out = prepare(image, label, config=config((2.0, 2.0, 2.0)), lut=LUT, num_classes=3)

    assert out.label is not None
    assert out.image.shape == (1, 6, 6, 9)
    assert out.label.shape == (6, 6, 9)
    np.testing.assert_allclose(np.linalg.norm(out.affine[:3, :3], axis=0), 2)
    assert out.reference_label is not None
    assert out.reference_shape == (12, 12, 6)
    np.testing.assert_array_equal(out.reference_label, LUT[label])
    np.testing.assert_array_equal(out.reference_affine, image.affine)
    assert (out.label == 2).sum() * 8 == pytest.approx((label == 7).sum() * 3, rel=0.15)


def test_moments_are_taken_before_resampling():
    image = volume((1, 10, 10, 10))
    out = prepare(image, None, config=config((3.0, 3.0, 3.0)), lut=LUT, num_classes=3)

    assert out.image.std() < 0.9  # averaging lowers the noise; a later z-score would hide it


def test_an_unlabelled_case_has_neither_label_nor_foreground():
    out = prepare(volume(), None, config=config(), lut=LUT, num_classes=3)

    assert out.label is None
    assert out.reference_label is None
    assert out.foreground == {}


@pytest.mark.parametrize("value", [1, 255, 256, -1, 1000])
def test_a_value_the_study_does_not_name_is_refused(value):
    label = np.zeros((6, 7, 8), np.int32)
    label[0, 0, 0] = value

    with pytest.raises(UnknownLabelError, match=f": {value}\\."):
        prepare(volume(), label, config=config(), lut=LUT, num_classes=3)


def test_foreground_names_voxels_of_each_class_spread_over_the_whole_structure():
    label = np.zeros((40, 40, 40), np.uint8)
    label[5:35, 5:35, 5:35] = 3
    label[0, 0, 0] = 7
    image = volume((1, 40, 40, 40))

    out = prepare(image, label, config=config(), lut=LUT, num_classes=3)

    assert out.label is not None
    assert {index: len(voxels) for index, voxels in out.foreground.items()} == {
        1: MAX_FOREGROUND_VOXELS,
        2: 1,
    }
    voxels = out.foreground[1]
    assert (out.label[tuple(voxels.T)] == 1).all()
    assert len(np.unique(voxels, axis=0)) == len(voxels)
    np.testing.assert_allclose(voxels.mean(axis=0), 19.5, atol=0.3)
    assert (voxels.min(axis=0) <= 6).all()
    assert (voxels.max(axis=0) >= 33).all()


def test_the_given_arrays_are_left_alone():
    image, label = volume(), np.full((6, 7, 8), 3)
    before = image.array.copy(), label.copy()

    prepare(image, label, config=config((2.0, 2.0, 2.0)), lut=LUT, num_classes=3)

    np.testing.assert_array_equal(image.array, before[0])
    np.testing.assert_array_equal(label, before[1])
