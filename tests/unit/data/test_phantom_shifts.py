"""Hospitals that differ in one way, and in nothing else."""

import csv
from dataclasses import asdict

import nibabel as nib
import numpy as np
import pytest

from fedvol.data.phantom import PHANTOM_LABELS, generate_hospitals
from fedvol.data.phantom_shifts import SHIFTS, shifted_hospitals

MAY_DIFFER = {
    "label": {"lesion_prevalence", "kidney_prevalence"},
    "size": {"num_cases", "num_subjects"},
    "scanner": {"noise_hu", "blur_mm", "scale", "offset_hu", "gamma"},
}


def training(hospital):
    return hospital.num_subjects - hospital.num_held_out


@pytest.mark.parametrize("shift", SHIFTS)
def test_only_what_the_shift_names_differs(shift):
    hospitals = shifted_hospitals(shift, num_sites=5)
    first, *others = (asdict(hospital) for hospital in hospitals)
    differs = {name for other in others for name in other if other[name] != first[name]}

    assert differs == MAY_DIFFER[shift] | {"name"}
    assert len({hospital.name for hospital in hospitals}) == 5
    assert {(h.num_validation, h.num_test) for h in hospitals} == {(4, 8)}


def test_sizes_are_a_twentieth_a_tenth_a_fifth_and_all():
    assert [training(h) for h in shifted_hospitals("size", num_cases=40)] == [2, 4, 8, 40]


@pytest.mark.parametrize("shift", ["label", "scanner"])
def test_elsewhere_all_are_as_large(shift):
    assert [training(h) for h in shifted_hospitals(shift, num_cases=7)] == [7, 7, 7, 7]


@pytest.fixture(scope="module")
def organs(tmp_path_factory):
    """Per hospital, how many of its eight cases hold each class."""
    folder = tmp_path_factory.mktemp("label")
    hospitals = shifted_hospitals("label", num_cases=4, num_validation=2, num_test=2)
    generate_hospitals(folder, hospitals=hospitals, seed=1)
    found = []
    for hospital in hospitals:
        rows = csv.DictReader((folder / hospital.name / "cases.csv").read_text().splitlines())
        labels = [
            np.asarray(
                nib.load(folder / hospital.name / "labels" / f"{row['case']}.nii.gz").dataobj
            )
            for row in rows
        ]
        found.append(
            {n: sum(bool((one == v).any()) for one in labels) for n, v in PHANTOM_LABELS.items()}
        )
    return found


def test_label_skew_is_in_the_volumes(organs):
    assert [one["liver"] for one in organs] == [8, 8, 8, 8]
    assert [one["kidney"] for one in organs] == [0, 8, 0, 8]
    assert [one["lesion"] for one in organs] == [8, 0, 0, 4]


def test_scanners_move_the_liver(tmp_path):
    """Strongly: further than the liver is from the muscle around it."""
    hospitals = shifted_hospitals("scanner", num_cases=2, num_validation=1, num_test=2)
    generate_hospitals(tmp_path, hospitals=hospitals, seed=1)
    means = []
    for hospital in hospitals:
        home = tmp_path / hospital.name
        image, label = (
            np.asarray(nib.load(home / kind / f"{hospital.name}_001.nii.gz").dataobj)
            for kind in ("images", "labels")
        )
        means.append(image[label == PHANTOM_LABELS["liver"]].mean())

    gaps = np.diff(sorted(means))
    assert max(means) - min(means) > 4 * 60
    assert (gaps > 15).all()
