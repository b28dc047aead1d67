import gzip
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedvol.data.nifti import read_image, read_label
from fedvol.errors import (
    DataError,
    GeometryError,
    VolumeMissingError,
    VolumeShapeError,
    VolumeTooLargeError,
    VolumeUnreadableError,
)

MAX_VOXELS = 100_000
Maker = Callable[[Path], None]


def image_bytes(
    array: np.ndarray | None = None,
    *,
    edit: Callable[[nib.Nifti1Header], None] = lambda header: None,
    affine: np.ndarray | None = None,
) -> bytes:
    """A NIfTI-1 file whose header is edited after it was made sound."""
    if array is None:
        array = np.arange(512, dtype=np.int16).reshape(8, 8, 8)
    raw = nib.Nifti1Image(array, np.eye(4) if affine is None else affine).to_bytes()
    header = nib.Nifti1Header(raw[:348], check=False)
    edit(header)
    return header.binaryblock + raw[348:]


def packed(content: bytes) -> Maker:
    return lambda path: path.write_bytes(gzip.compress(content)) and None  # type: ignore[return-value]


def edited(**fields: object) -> Maker:
    def edit(header: nib.Nifti1Header) -> None:
        for name, value in fields.items():
            header[name] = value

    return packed(image_bytes(edit=edit))


def shaped(*sides: int) -> Maker:
    return edited(dim=[len(sides), *sides, *[1] * (7 - len(sides))])


def with_affine(affine: np.ndarray) -> Maker:
    def edit(header: nib.Nifti1Header) -> None:
        header.set_sform(affine, code=1)
        header["qform_code"] = 0

    return packed(image_bytes(edit=edit))


def with_two_forms(path: Path) -> None:
    image = nib.Nifti1Image(np.ones((8, 8, 8), np.int16), np.eye(4))
    image.set_sform(np.diag([-1.0, 1, 1, 1]), code=1)
    image.set_qform(np.eye(4), code=1)
    nib.save(image, path)


SHEAR = np.eye(4)
SHEAR[1, 2] = 0.2
SINGULAR = np.diag([1.0, 1, 1, 1])
SINGULAR[:3, 2] = SINGULAR[:3, 1]
RGB = np.zeros((8, 8, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")])
SOUND = image_bytes()

BROKEN: dict[str, tuple[Maker, type[DataError], str]] = {
    "empty file": (lambda p: p.write_bytes(b"") and None, VolumeUnreadableError, "not gzip"),
    "only text": (lambda p: p.write_text("hello") and None, VolumeUnreadableError, "not gzip"),
    "not compressed": (lambda p: p.write_bytes(SOUND) and None, VolumeUnreadableError, "not gzip"),
    "compressed text": (packed(b"hello" * 100), VolumeUnreadableError, "NIfTI header"),
    "compressed nothing": (packed(b""), VolumeUnreadableError, "NIfTI header"),
    "half a header": (packed(SOUND[:200]), VolumeUnreadableError, "NIfTI header"),
    "truncated gzip": (
        lambda p: p.write_bytes(gzip.compress(SOUND)[:-300]) and None,
        VolumeUnreadableError,
        "ends before its data",
    ),
    "damaged gzip": (
        lambda p: p.write_bytes(gzip.compress(SOUND)[:-5] + b"\0" * 5) and None,
        VolumeUnreadableError,
        "CRC",
    ),
    "voxels missing": (packed(SOUND[:-10]), VolumeUnreadableError, "1014 of 1024 bytes"),
    "much too long": (
        packed(SOUND + bytes(3 << 20)),
        VolumeUnreadableError,
        "more than its header",
    ),
    "wrong magic": (edited(magic=b"nix"), VolumeUnreadableError, "magic number"),
    "two-file header": (edited(magic=b"ni1"), VolumeUnreadableError, "in two files"),
    "voxels before the header": (edited(vox_offset=0), VolumeUnreadableError, "begin at byte 0"),
    "voxels at infinity": (edited(vox_offset=np.inf), VolumeUnreadableError, "begin at byte inf"),
    "voxels far away": (edited(vox_offset=1e9), VolumeUnreadableError, "begin at byte 1e"),
    "unknown type": (edited(datatype=77), VolumeUnreadableError, "cannot be read"),
    "infinite slope": (edited(scl_slope=np.inf), VolumeUnreadableError, "scale factor"),
    "infinite intercept": (
        edited(scl_slope=1, scl_inter=np.inf),
        VolumeUnreadableError,
        "cannot be read",
    ),
    "a folder": (lambda p: p.mkdir(), VolumeUnreadableError, "is a folder"),
    "a pipe": (lambda p: os.mkfifo(p), VolumeUnreadableError, "no regular file"),
    "absent": (lambda p: None, VolumeMissingError, "is not there"),
    "dangling link": (lambda p: p.symlink_to("nowhere"), VolumeMissingError, "is not there"),
    "complex voxels": (
        packed(image_bytes(np.ones((8, 8, 8), np.complex64))),
        VolumeUnreadableError,
        "of type complex64",
    ),
    "RGB voxels": (packed(image_bytes(RGB)), VolumeUnreadableError, "of type RGB"),
    "2-D": (shaped(32, 16), VolumeShapeError, "has 2 axes"),
    "no axis": (edited(dim=[0] * 8), VolumeShapeError, "has 0 axes"),
    "5-D": (shaped(8, 8, 8, 2, 2), VolumeShapeError, "has 5 axes"),
    "4-D with other channels": (shaped(8, 8, 4, 2), VolumeShapeError, "2 channels, expected 1"),
    "one slice": (shaped(16, 32, 1), VolumeShapeError, "16x32 voxels|has 2 axes|at least 4"),
    "negative side": (shaped(8, -8, 8), VolumeShapeError, "at least 4"),
    "header bomb": (shaped(30000, 30000, 30000), VolumeTooLargeError, "30000x30000x30000"),
    "a little too large": (shaped(50, 50, 41), VolumeTooLargeError, "more than 100000"),
    "no geometry": (edited(sform_code=0, qform_code=0), GeometryError, "left and right"),
    "zero spacing": (
        edited(sform_code=0, qform_code=1, pixdim=[1, 1, 0, 1, 0, 0, 0, 0]),
        GeometryError,
        "1x0x1 mm",
    ),
    "negative spacing": (
        edited(sform_code=0, qform_code=1, pixdim=[1, 1, -1, 1, 0, 0, 0, 0]),
        GeometryError,
        "qform is wrong",
    ),
    "impossible rotation": (
        edited(sform_code=0, qform_code=1, quatern_b=2.0),
        GeometryError,
        "qform is wrong",
    ),
    "huge spacing": (with_affine(np.diag([1.0, 1, 500, 1])), GeometryError, "1x1x500 mm"),
    "singular affine": (with_affine(SINGULAR), GeometryError, "singular"),
    "NaN affine": (edited(srow_x=[np.nan, 0, 0, 0]), GeometryError, "NaN"),
    "sheared affine": (with_affine(SHEAR), GeometryError, "sheared"),
    "qform against sform": (with_two_forms, GeometryError, "14 mm apart"),
    "metres": (edited(xyzt_units=1), GeometryError, "in metres"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_volume_has_its_own_refusal(tmp_path: Path, name: str) -> None:
    make, kind, expected = BROKEN[name]
    path = tmp_path / "brain_17.nii.gz"
    make(path)
    for read in (read_image, read_label):
        with pytest.raises(kind, match=expected) as caught:
            read(path, max_voxels=MAX_VOXELS)
        assert type(caught.value) is kind
        assert str(caught.value).startswith(f"{kind.code} ")
        assert "brain_17.nii.gz" in str(caught.value)


def test_unreadable_by_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "brain_17.nii.gz"
    packed(SOUND)(path)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(VolumeUnreadableError, match=r"brain_17.*Permission denied"):
        read_image(path, max_voxels=MAX_VOXELS)


def test_a_header_bomb_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.nii.gz"
    shaped(30000, 30000, 30000)(path)
    promised = tmp_path / "promised.nii.gz"
    shaped(1000, 1000, 100)(promised)
    tracemalloc.start()
    try:
        with pytest.raises(VolumeTooLargeError):
            read_image(path, max_voxels=10**9)
        with pytest.raises(VolumeUnreadableError, match="holds 1024 of 200000000 bytes"):
            read_image(promised, max_voxels=10**9)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300_000_000  # the promised array itself, whose pages are never touched


def test_many_zeros_in_a_small_file_are_legal(tmp_path: Path) -> None:
    path = tmp_path / "zeros.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((200, 200, 50), np.uint8), np.eye(4)), path)
    assert path.stat().st_size < 20_000
    assert read_image(path, max_voxels=2_000_000).array.shape == (1, 200, 200, 50)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "<f4", ">f4", ">i2", "f8", "i8"])
def test_values_and_geometry_agree_with_nibabel(tmp_path: Path, suffix: str, dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 100, (5, 6, 7)).astype(dtype)
    affine = np.array([[0, 0, 2.0, -3], [-1, 0, 0, 4], [0, 3, 0, 5], [0, 0, 0, 1]])
    path = tmp_path / f"x{suffix}"
    nib.save(nib.Nifti1Image(array, affine, dtype=array.dtype), path)
    found = read_image(path, max_voxels=MAX_VOXELS)
    expected = nib.as_closest_canonical(nib.load(path))
    assert found.array.dtype == np.float32
    assert found.array.flags.c_contiguous
    np.testing.assert_array_equal(found.array[0], expected.get_fdata())
    np.testing.assert_allclose(found.affine, expected.affine)
    label = read_label(path, max_voxels=MAX_VOXELS)
    np.testing.assert_array_equal(label.array, expected.get_fdata())


def test_nifti_2_and_scale_factors_are_read(tmp_path: Path) -> None:
    array = np.arange(512, dtype=np.int16).reshape(8, 8, 8)
    path = tmp_path / "x.nii.gz"
    image = nib.Nifti2Image(array, np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, path)
    expected = nib.load(path).get_fdata()
    found = read_image(path, max_voxels=MAX_VOXELS)
    np.testing.assert_allclose(found.array[0], expected, rtol=1e-6)
    assert found.array.min() == pytest.approx(expected.min())


def test_channels_come_first(tmp_path: Path) -> None:
    array = np.random.default_rng(1).normal(size=(5, 6, 7, 3)).astype(np.float32)
    path = tmp_path / "x.nii.gz"
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1, 1, 1])), path)
    found = read_image(path, max_voxels=5 * 6 * 7, num_channels=3)
    np.testing.assert_array_equal(found.array, np.moveaxis(array[::-1, ::-1], -1, 0))


def test_qform_and_sform_may_differ_by_rounding(tmp_path: Path) -> None:
    angle = np.pi - 1e-4
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = nib.Nifti1Image(np.ones((64, 64, 8), np.uint8), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    path = tmp_path / "x.nii.gz"
    nib.save(image, path)
    assert read_image(path, max_voxels=MAX_VOXELS).spacing_mm == pytest.approx((1, 1, 1))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 200),
)
def test_a_mutated_file_is_read_or_refused_by_name(
    tmp_path: Path, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(SOUND)
    for position, value in changes:
        content[position] = value
    path = tmp_path / "brain_17.nii"
    path.write_bytes(content[: len(content) - cut])
    for read in (read_image, read_label):
        try:
            found = read(path, max_voxels=MAX_VOXELS)
        except DataError as error:
            assert "brain_17.nii" in str(error)
        else:
            assert found.array.size <= MAX_VOXELS
            assert np.isfinite(found.affine).all()
