import csv
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from fedvol.data.phantom import (
    NUM_FOLDS,
    PHANTOM_LABELS,
    Hospital,
    default_hospitals,
    generate_hospitals,
    phantom_case,
)

SMALL = Hospital(
    name="north",
    num_cases=8,
    num_subjects=6,
    spacing_mm=(4.0, 4.5, 5.0),
    shape=(28, 21, 18),
    noise_hu=5.0,
    blur_mm=1.0,
    scale=1.0,
    offset_hu=0.0,
    lesion_prevalence=0.5,
)
SOUTH = replace(SMALL, name="south", scale=1.2, offset_hu=40.0, noise_hu=30.0, blur_mm=5.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("hospitals")
    generate_hospitals(out, hospitals=(SMALL, SOUTH), seed=3)
    return out


def table(folder, name):
    with (folder / name / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def case(hospital=SMALL, *, seed=0, has_lesions=True):
    return phantom_case(
        hospital,
        anatomy=np.random.default_rng(seed),
        study=np.random.default_rng(seed + 1000),
        has_lesions=has_lesions,
    )


def test_the_same_seed_gives_the_same_bytes_and_another_another(folder, tmp_path):
    generate_hospitals(tmp_path / "again", hospitals=(SMALL, SOUTH), seed=3)
    generate_hospitals(tmp_path / "other", hospitals=(SMALL, SOUTH), seed=4)

    assert contents(tmp_path / "again") == contents(folder)
    other = contents(tmp_path / "other")
    image = "north/images/north_001.nii.gz"
    assert other[image] != contents(folder)[image]


def test_a_hospital_does_not_depend_on_the_others(folder, tmp_path):
    generate_hospitals(tmp_path, hospitals=(SOUTH,), seed=3)

    for name, data in contents(tmp_path).items():
        assert contents(folder)[name] == data


def test_every_case_in_the_table_has_its_volumes_on_the_stated_grid(folder):
    for hospital in (SMALL, SOUTH):
        rows = table(folder, hospital.name)
        assert len({row["case"] for row in rows}) == hospital.num_cases
        assert {row["site"] for row in rows} == {hospital.name}
        for row in rows:
            image = nib.load(folder / hospital.name / "images" / f"{row['case']}.nii.gz")
            label = nib.load(folder / hospital.name / "labels" / f"{row['case']}.nii.gz")
            assert image.shape == label.shape == hospital.shape
            np.testing.assert_allclose(image.header.get_zooms(), hospital.spacing_mm, rtol=1e-6)
            np.testing.assert_array_equal(image.affine, label.affine)
            np.testing.assert_array_equal(image.get_qform(), image.get_sform())
            assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
            assert label.get_data_dtype() == np.uint8


def test_a_subject_is_in_one_fold_and_no_fold_is_empty(folder):
    for hospital in (SMALL, SOUTH, *default_hospitals(4, 6)):
        if hospital.name in ("north", "south"):
            rows = table(folder, hospital.name)
            folds = {}
            for row in rows:
                folds.setdefault(row["subject"], set()).add(row["fold"])
            assert all(len(found) == 1 for found in folds.values())
            assert {row["fold"] for row in rows} == {str(fold) for fold in range(NUM_FOLDS)}
            assert len(folds) == hospital.num_subjects
            assert len(rows) > len(folds)
        assert hospital.num_subjects >= NUM_FOLDS


def test_subjects_of_two_hospitals_differ(folder):
    north, south = ({row["subject"] for row in table(folder, name)} for name in ("north", "south"))

    assert not north & south


def test_prevalence_is_met(folder):
    with_lesion = sum(
        bool((nib.load(path).get_fdata() == PHANTOM_LABELS["lesion"]).any())
        for path in (folder / "north" / "labels").iterdir()
    )

    assert with_lesion == 4


@pytest.mark.parametrize("seed", range(6))
def test_organs_are_where_they_belong(seed):
    made = case(seed=seed)
    sharp = case(replace(SMALL, noise_hu=0.0, blur_mm=0.0), seed=seed)
    points = np.argwhere(made.label >= 0) @ made.affine[:3, :3].T + made.affine[:3, 3]
    place = points.reshape(*made.label.shape, 3)
    organ = {name: made.label == value for name, value in PHANTOM_LABELS.items()}

    assert all(mask.any() for mask in organ.values())
    assert (sharp.image[made.label > 0] > -50).all(), "an organ voxel lies outside the body"
    assert place[organ["liver"]].mean(axis=0)[0] > 5, "the liver is on the patient's right"
    kidneys = place[organ["kidney"]]
    assert (kidneys[:, 0] > 0).any()
    assert (kidneys[:, 0] < 0).any()
    assert kidneys.mean(axis=0)[1] < -5, "kidneys are at the back"


def test_lesions_lie_in_the_liver():
    with_lesion, without = case(has_lesions=True), case(has_lesions=False)

    lesion = with_lesion.label == PHANTOM_LABELS["lesion"]
    assert lesion.any()
    assert (without.label[lesion] == PHANTOM_LABELS["liver"]).all()
    assert (with_lesion.label[~lesion] == without.label[~lesion]).all()


def test_classes_differ_in_intensity():
    made = case(seed=1)
    mean = {name: made.image[made.label == v].mean() for name, v in PHANTOM_LABELS.items()}

    assert mean["lesion"] < mean["liver"] - 20
    assert mean["kidney"] > mean["liver"] + 20


def test_two_studies_of_one_patient_share_the_anatomy_but_not_the_image():
    first, second = (
        phantom_case(
            SMALL,
            anatomy=np.random.default_rng(1),
            study=np.random.default_rng(study),
            has_lesions=False,
        )
        for study in (2, 3)
    )
    stranger = case(seed=77, has_lesions=False)

    def volume(made):
        return int((made.label == 1).sum())

    assert not np.array_equal(first.image, second.image)
    assert volume(first) == pytest.approx(volume(second), rel=0.1)
    assert volume(first) != pytest.approx(volume(stranger), rel=0.02)


def test_scale_offset_noise_and_blur_do_what_they_say():
    plain = replace(SMALL, noise_hu=0.0, blur_mm=0.0)
    base = case(plain).image.astype(float)

    scaled = case(replace(plain, scale=1.5, offset_hu=30.0)).image
    np.testing.assert_allclose(scaled, base * 1.5 + 30, atol=1.5)
    noisy = case(replace(plain, noise_hu=50.0)).image - base
    assert noisy.std() == pytest.approx(50, rel=0.05)
    blurred = case(replace(plain, blur_mm=6.0)).image
    assert (
        np.abs(np.diff(blurred.astype(float), axis=0)).max() < np.abs(np.diff(base, axis=0)).max()
    )


def test_kidneys_are_where_the_prevalence_says(tmp_path):
    cohort = replace(SMALL, kidney_prevalence=0.5)
    generate_hospitals(tmp_path, hospitals=(cohort,), seed=3)
    found = {}
    for row in table(tmp_path, "north"):
        label = nib.load(tmp_path / "north" / "labels" / f"{row['case']}.nii.gz").get_fdata()
        found.setdefault(row["subject"], set()).add(bool((label == PHANTOM_LABELS["kidney"]).any()))

    assert all(len(seen) == 1 for seen in found.values()), "a patient has kidneys or not"
    assert sum(seen == {True} for seen in found.values()) == 3


def test_without_kidneys_all_else_stays():
    drawn = {"hospital": replace(SMALL, noise_hu=0.0, blur_mm=0.0), "has_lesions": True}
    with_kidneys, without = (
        phantom_case(
            **drawn,
            anatomy=np.random.default_rng(0),
            study=np.random.default_rng(1),
            has_kidneys=has_kidneys,
        )
        for has_kidneys in (True, False)
    )

    kidney = with_kidneys.label == PHANTOM_LABELS["kidney"]
    assert kidney.any()
    assert (without.label[kidney] == 0).all()
    assert (without.image[kidney] < with_kidneys.image[kidney]).all()
    np.testing.assert_array_equal(without.label[~kidney], with_kidneys.label[~kidney])
    np.testing.assert_array_equal(without.image[~kidney], with_kidneys.image[~kidney])


def test_gamma_bends_intensities_over_their_own_range():
    base = case(SMALL).image.astype(float)
    bent = case(replace(SMALL, gamma=2.0)).image.astype(float)

    low, extent = base.min(), np.ptp(base)
    np.testing.assert_allclose(bent, ((base - low) / extent) ** 2 * extent + low, atol=2.5)
    np.testing.assert_allclose((bent.min(), bent.max()), (base.min(), base.max()), atol=1)


def test_held_out_subjects_are_in_the_column_split(tmp_path):
    generate_hospitals(tmp_path, hospitals=(replace(SMALL, num_validation=1, num_test=2),), seed=3)
    splits = {}
    for row in table(tmp_path, "north"):
        splits.setdefault(row["subject"], set()).add(row["split"])

    assert sorted(split for (split,) in splits.values()) == [
        "test", "test", "train", "train", "train", "validation",
    ]  # fmt: skip


def test_without_held_out_subjects_there_is_no_such_column(folder):
    assert set(table(folder, "north")[0]) == {"case", "subject", "site", "fold"}


def test_somebody_is_left_to_train_on():
    with pytest.raises(ValueError, match="leave none to train on"):
        replace(SMALL, num_validation=3, num_test=3)


def test_default_hospitals_differ_on_purpose():
    hospitals = default_hospitals(4, 20)

    assert [hospital.num_cases for hospital in hospitals] == [20, 16, 12, 18]
    for field in ("name", "spacing_mm", "noise_hu", "blur_mm", "offset_hu", "lesion_prevalence"):
        assert len({getattr(hospital, field) for hospital in hospitals}) == 4, field
    for hospital in hospitals:
        extent = np.multiply(hospital.shape, hospital.spacing_mm)
        np.testing.assert_allclose(extent, (112, 92, 92), atol=2)
    assert len({hospital.name for hospital in default_hospitals(9, 6)}) == 9


@pytest.mark.parametrize(("cases", "subjects"), [(4, 4), (6, 7), (13, 6)])
def test_impossible_numbers_are_a_slip_of_the_caller(cases, subjects):
    with pytest.raises(ValueError, match="wanted 5 <= subjects"):
        replace(SMALL, num_cases=cases, num_subjects=subjects)
