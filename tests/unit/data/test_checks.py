from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fedvol.config.data import DataRequirement
from fedvol.data.checks import check_case
from fedvol.data.layout import CaseEntry, read_entries
from fedvol.errors import (
    ConstantVolumeError,
    DataError,
    EmptyLabelError,
    GridMismatchError,
    LabelValueError,
    NonFiniteVoxelError,
    UnknownLabelError,
    VolumeMissingError,
    VolumeShapeError,
)


def changed(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[1, 2, 3] = value
    return array


def entry_of(folder, *, num_channels: int = 1) -> CaseEntry:
    return read_entries(folder.finish(), num_channels=num_channels)["a"][0]


def test_a_sound_case_has_its_facts(data_folder, requirement: DataRequirement) -> None:
    data_folder.add("c1")
    checked = check_case(entry_of(data_folder), requirement=requirement)
    assert checked.voxels == {"head": 24, "tail": 24}
    assert checked.label is not None
    assert checked.label.dtype == np.uint8
    assert checked.image.array.shape == (1, 8, 8, 8)


IMAGES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], type[DataError], str]] = {
    "NaN": (lambda a: changed(a, np.nan), NonFiniteVoxelError, "1 voxels are NaN or infinite"),
    "infinite": (lambda a: changed(a, -np.inf), NonFiniteVoxelError, "NaN or infinite"),
    "beyond float32": (lambda a: changed(a.astype("f8"), 1e300), NonFiniteVoxelError, "infinite"),
    "constant": (lambda a: np.full_like(a, 7), ConstantVolumeError, "all voxels are 7"),
    "two channels": (lambda a: np.stack([a, a], -1), VolumeShapeError, "2 channels, expected 1"),
}
LABELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], type[DataError], str]] = {
    "unknown": (lambda a: changed(a, 9), UnknownLabelError, "holds 9, which"),
    "several unknown": (
        lambda a: changed(np.where(a == 1, 77, a).astype("u1"), 5),
        UnknownLabelError,
        "holds 5, 77, which",
    ),
    "negative": (lambda a: changed(a.astype("i2"), -1), UnknownLabelError, "holds -1, which"),
    "above a byte": (lambda a: changed(a.astype("i4"), 70001), UnknownLabelError, "holds 70001"),
    "value 255": (lambda a: changed(a, 255), UnknownLabelError, "holds 255"),
    "empty": (np.zeros_like, EmptyLabelError, "background only"),
    "half": (lambda a: changed(a.astype("f4"), 0.5), LabelValueError, "holds 0.5"),
    "probabilities": (
        lambda a: np.linspace(0, 1, a.size).reshape(a.shape).astype("f4"),
        LabelValueError,
        "more",
    ),
    "NaN": (lambda a: changed(a.astype("f4"), np.nan), NonFiniteVoxelError, "the label holds NaN"),
    "other shape": (lambda a: a[:-1], GridMismatchError, "7x8x8 voxels, image grid is 8x8x8"),
    "4-D": (lambda a: np.stack([a, a], -1), VolumeShapeError, "2 channels"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_each_broken_image_has_its_own_error(
    data_folder, requirement: DataRequirement, sound_case, name: str
) -> None:
    make, kind, expected = IMAGES[name]
    data_folder.add("c1", image=make(sound_case(0)[0]))
    with pytest.raises(kind) as caught:
        check_case(entry_of(data_folder), requirement=requirement)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{kind.code} case a/c1")


@pytest.mark.parametrize("name", LABELS)
def test_each_broken_label_has_its_own_error(
    data_folder, requirement: DataRequirement, sound_case, name: str
) -> None:
    make, kind, expected = LABELS[name]
    data_folder.add("c1", label=make(sound_case(0)[1]))
    with pytest.raises(kind) as caught:
        check_case(entry_of(data_folder), requirement=requirement)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{kind.code} case a/c1")


@pytest.mark.parametrize(
    ("affine", "expected"),
    [
        (np.diag([1.0, 1, 3, 1]), "label grid is 1.0x1.0x3.0 mm, image grid is 1.0x1.0x1.0 mm. "),
        (np.diag([1.0, 1, 1.002, 1]), "label grid is 1.0x1.0x1.002 mm"),
        (np.array([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "0.500 mm from"),
        (np.diag([-1.0, 1, 1, 1]), "7.000 mm from"),
    ],
)
def test_a_label_on_another_grid_is_refused(
    data_folder, requirement: DataRequirement, save_nifti, sound_case, affine, expected: str
) -> None:
    data_folder.add("c1")
    save_nifti(data_folder.label("c1"), sound_case(0)[1], affine=affine)
    with pytest.raises(GridMismatchError) as caught:
        check_case(entry_of(data_folder), requirement=requirement)
    assert str(caught.value).startswith("FV-DATA-007 case a/c1: ")
    assert expected in str(caught.value)


def test_one_grid_stored_in_two_orientations_is_one_grid(
    data_folder, requirement: DataRequirement
) -> None:
    data_folder.add("c1")
    straight = check_case(entry_of(data_folder), requirement=requirement).label
    label = nib.load(data_folder.label("c1"))
    turn = nib.orientations.axcodes2ornt("SPL")
    start = nib.io_orientation(label.affine)
    turned = label.as_reoriented(nib.orientations.ornt_transform(start, turn))
    nib.save(turned, data_folder.label("c1"))
    found = check_case(entry_of(data_folder), requirement=requirement).label
    assert nib.aff2axcodes(turned.affine) == ("S", "P", "L")
    np.testing.assert_array_equal(found, straight)


def test_whole_numbers_in_other_types_are_labels(
    data_folder, requirement: DataRequirement, sound_case
) -> None:
    label = sound_case(0)[1]
    for dtype in ("f4", "f8", "i2", "i8"):
        data_folder.add("c1", label=label.astype(dtype))
        found = check_case(entry_of(data_folder), requirement=requirement).label
        np.testing.assert_array_equal(found, label)
        data_folder.rows.clear()


def test_an_empty_label_may_be_allowed(
    data_folder, requirement: DataRequirement, sound_case
) -> None:
    data_folder.add("c1", label=np.zeros_like(sound_case(0)[1]))
    allowed = requirement.model_copy(update={"allow_empty_labels": True})
    assert check_case(entry_of(data_folder), requirement=allowed).voxels == {"head": 0, "tail": 0}


@pytest.mark.parametrize("missing", ["image", "label"])
def test_a_missing_file_is_named(data_folder, requirement: DataRequirement, missing: str) -> None:
    data_folder.add("c0", subject="S0")
    data_folder.add("c1")
    getattr(data_folder, missing)("c0").unlink()
    folder = {"image": "imagesTr", "label": "labelsTr"}[missing]
    with pytest.raises(VolumeMissingError, match=rf"case a/c0, file {folder}/c0\.nii\.gz: is not"):
        check_case(entry_of(data_folder), requirement=requirement)


def test_channels_in_two_files_lie_on_one_grid(
    data_folder, requirement: DataRequirement, save_nifti, sound_case, tmp_path: Path
) -> None:
    two = requirement.model_copy(update={"channels": ("t1", "t2")})
    data_folder.add("c1").unlink()
    first, second = sound_case(1)[0], sound_case(2)[0]
    for channel, array in enumerate((first, second)):
        save_nifti(data_folder.root / "imagesTr" / f"c1_000{channel}.nii.gz", array)
    checked = check_case(entry_of(data_folder, num_channels=2), requirement=two)
    np.testing.assert_array_equal(checked.image.array, [first, second])
    save_nifti(
        data_folder.root / "imagesTr" / "c1_0001.nii.gz", second, affine=np.diag([1, 1, 2.0, 1])
    )
    with pytest.raises(GridMismatchError, match=r"channel t2 grid is 1\.0x1\.0x2\.0 mm"):
        check_case(entry_of(data_folder, num_channels=2), requirement=two)


def test_content_is_the_image_not_its_encoding(
    data_folder, requirement: DataRequirement, sound_case, tmp_path: Path
) -> None:
    def content(image: np.ndarray) -> str:
        data_folder.rows.clear()
        data_folder.add("c1", image=image)
        return check_case(entry_of(data_folder), requirement=requirement).content

    image = np.rint(sound_case(0)[0])
    assert content(image) == content(image.astype("i2")) == content(image.astype("f8"))
    assert content(image) != content(changed(image, 1))
