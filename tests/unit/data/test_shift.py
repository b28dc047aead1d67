import nibabel as nib
import numpy as np
import pytest

from fedvol.data.nifti_writing import write_nifti
from fedvol.data.shift import shift_site
from fedvol.errors import DataFolderError, VolumeUnreadableError

AFFINE = np.diag([1.0, 2.0, 1.5, 1.0])


@pytest.fixture
def source(tmp_path):
    """Three cases of two sites in Decathlon layout with one table."""
    folder = tmp_path / "source"
    rng = np.random.default_rng(0)
    lines = ["case,subject,site"]
    for number, site in enumerate(("a", "b", "b")):
        image = rng.normal(100, 20, (1, 8, 9, 7)).astype(np.float32)
        label = rng.integers(0, 2, (1, 8, 9, 7)).astype(np.uint8)
        write_nifti(folder / "imagesTr" / f"c{number}.nii.gz", image, affine=AFFINE)
        write_nifti(folder / "labelsTr" / f"c{number}.nii.gz", label, affine=AFFINE)
        lines.append(f"c{number},s{number},{site}")
    (folder / "sites.csv").write_text("\n".join(lines) + "\n")
    (folder / "SHA256SUMS").write_text("soon untrue\n")
    return folder


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def voxels(folder, case):
    return nib.load(folder / "imagesTr" / f"{case}.nii.gz").get_fdata()


def test_only_the_named_site_changes(source, tmp_path):
    target = tmp_path / "target"

    assert shift_site(source, target, site="b", scale=3.0, blur_mm=2.0, noise=0.1) == 2

    before, after = contents(source), contents(target)
    assert set(after) == set(before) - {"SHA256SUMS"}
    changed = {name for name, data in after.items() if data != before[name]}
    assert changed == {"imagesTr/c1.nii.gz", "imagesTr/c2.nii.gz"}


def test_geometry_stays(source, tmp_path):
    shift_site(source, tmp_path / "target", site="b", gamma=2.0)
    image = nib.load(tmp_path / "target" / "imagesTr" / "c1.nii.gz")

    np.testing.assert_array_equal(image.affine, AFFINE)
    np.testing.assert_array_equal(image.get_qform(), image.get_sform())
    assert image.shape == (8, 9, 7)


def test_scale_and_gamma_are_exact(source, tmp_path):
    shift_site(source, tmp_path / "scaled", site="b", scale=50.0)
    shift_site(source, tmp_path / "curved", site="b", gamma=2.0)
    base = voxels(source, "c1")
    low, extent = base.min(), np.ptp(base)

    np.testing.assert_allclose(voxels(tmp_path / "scaled", "c1"), base * 50, rtol=1e-5)
    expected = ((base - low) / extent) ** 2 * extent + low
    np.testing.assert_allclose(voxels(tmp_path / "curved", "c1"), expected, rtol=1e-5)


def test_blur_takes_sharpness_and_noise_adds_its_share(source, tmp_path):
    shift_site(source, tmp_path / "blurred", site="b", blur_mm=2.0)
    shift_site(source, tmp_path / "noisy", site="b", noise=0.2)
    base = voxels(source, "c1")

    def roughness(array):
        return np.abs(np.diff(array, axis=0)).mean()

    assert roughness(voxels(tmp_path / "blurred", "c1")) < roughness(base) / 2
    noise = voxels(tmp_path / "noisy", "c1") - base
    assert noise.std() == pytest.approx(0.2 * np.ptp(base), rel=0.1)


def test_the_same_arguments_give_the_same_bytes(source, tmp_path):
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        shift_site(source, tmp_path / name, site="b", noise=0.1, seed=seed)

    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "three")


def test_an_unknown_site_or_an_existing_target_is_refused(source, tmp_path):
    with pytest.raises(DataFolderError, match=r"has no site 'c'\. It has a, b"):
        shift_site(source, tmp_path / "target", site="c")
    assert not (tmp_path / "target").exists()
    with pytest.raises(DataFolderError, match="exists already"):
        shift_site(source, source, site="b")


def test_a_broken_volume_leaves_nothing_behind(source, tmp_path):
    (source / "imagesTr" / "c2.nii.gz").write_bytes(b"broken")

    with pytest.raises(VolumeUnreadableError):
        shift_site(source, tmp_path / "target", site="b", scale=2.0)

    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_listed_but_absent_volume_stays_absent(source, tmp_path):
    (source / "imagesTr" / "c2.nii.gz").unlink()

    assert shift_site(source, tmp_path / "target", site="b", scale=2.0) == 1


def test_hospitals_in_folders_of_their_own_work_too(tmp_path):
    for site in ("north", "south"):
        home = tmp_path / "source" / site
        for number in range(2):
            image = np.random.default_rng(number).normal(size=(1, 8, 8, 8)).astype(np.float32)
            write_nifti(home / "images" / f"{site}_{number}.nii.gz", image, affine=np.eye(4))
            write_nifti(
                home / "labels" / f"{site}_{number}.nii.gz",
                np.ones((1, 8, 8, 8), np.uint8),
                affine=np.eye(4),
            )
        rows = "".join(f"{site}_{n},{site}_s{n},{site}\n" for n in range(2))
        (home / "cases.csv").write_text("case,subject,site\n" + rows)

    assert shift_site(tmp_path / "source", tmp_path / "target", site="south", scale=2.0) == 2
    before, after = contents(tmp_path / "source"), contents(tmp_path / "target")
    assert {name.split("/")[0] for name in after if after[name] != before[name]} == {"south"}
