import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedvol.data.layout import has_subjects, read_entries
from fedvol.errors import CaseTableError, DataFolderError

Save = Callable[..., Path]
ARRAY = np.zeros((4, 4, 4), np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def table(folder: Path, text: str, *, name: str = "sites.csv") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def message(root: Path, *, num_channels: int = 1) -> str:
    with pytest.raises(CaseTableError) as caught:
        read_entries(root, num_channels=num_channels)
    assert "FV-DATA-002" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("images", "labels"), [("imagesTr", "labelsTr"), ("images", "labels")])
def test_one_table_beside_the_volumes(
    root: Path, save_nifti: Save, images: str, labels: str
) -> None:
    table(root, "case,subject,site\nc2,S1,b\nc1,S2,b\nc0,S3,a\n")
    for case in ("c0", "c1", "c2"):
        save_nifti(root / images / f"{case}.nii.gz", ARRAY)
        save_nifti(root / labels / f"{case}.nii", ARRAY)
    entries = read_entries(root, num_channels=1)
    assert list(entries) == ["a", "b"]
    assert [entry.case for entry in entries["b"]] == ["c1", "c2"]
    assert entries["a"][0].images == (root / images / "c0.nii.gz",)
    assert entries["a"][0].label == root / labels / "c0.nii"


def test_columns_name_files_and_an_empty_cell_is_no_label(root: Path, save_nifti: Save) -> None:
    table(root, "case,subject,site,image,label\nc1,S1,a,x/i.nii.gz,x/l.nii.gz\nc2,S2,a,x/j.nii,\n")
    for name in ("i.nii.gz", "l.nii.gz", "j.nii"):
        save_nifti(root / "x" / name, ARRAY)
    first, second = read_entries(root, num_channels=1)["a"]
    assert (first.images, first.label) == ((root / "x/i.nii.gz",), root / "x/l.nii.gz")
    assert (second.images, second.label) == ((root / "x/j.nii",), None)


def test_one_folder_for_each_site_may_repeat_case_names(root: Path, save_nifti: Save) -> None:
    for number, site in enumerate(("north", "south")):
        table(root / site, f"case,subject\nc1,S{number}\n", name="cases.csv")
        save_nifti(root / site / "images" / "c1.nii.gz", ARRAY)
    entries = read_entries(root, num_channels=1)
    assert list(entries) == ["north", "south"]
    assert entries["south"][0].root == root
    assert entries["south"][0].images == (root / "south/images/c1.nii.gz",)
    assert entries["south"][0].label is None


def test_a_site_folder_with_volumes_but_no_table_is_named(root: Path, save_nifti: Save) -> None:
    table(root / "north", "case,subject\nc1,S1\n")
    save_nifti(root / "south" / "images" / "c1.nii.gz", ARRAY)
    assert "south: holds volumes but no case table" in message(root)


def test_problems_of_every_site_come_at_once(root: Path) -> None:
    table(root / "north", "case,subject,site\nc1,S1,south\n")
    table(root / "south", "case,subject\nc1,\n")
    table(root / "we st", "case,subject\nc1,S9\n")
    found = message(root)
    assert "3 problems" in found
    assert "north/sites.csv line 2: names site 'south'" in found
    assert "south/sites.csv line 2: column subject is empty" in found
    assert "'we st': is no safe name of a site" in found


def test_one_patient_spelt_differently_at_two_sites_is_a_problem(root: Path) -> None:
    table(root / "north", "case,subject\nc1,S1\n")
    table(root / "south", "case,subject\nc1,s1\n")
    assert "subjects 'S1' and 's1' differ" in message(root)


def test_an_msd_folder_without_a_table_is_one_site(root: Path, save_nifti: Save) -> None:
    for name in ("c2", "c1", "._c1"):
        save_nifti(root / "imagesTr" / f"{name}.nii.gz", ARRAY)
        save_nifti(root / "labelsTr" / f"{name}.nii.gz", ARRAY)
    entries = read_entries(root, num_channels=1)
    assert [(e.case, e.subject) for e in entries["data"]] == [("c1", "c1"), ("c2", "c2")]


def test_without_any_table_nobody_names_subjects(root: Path, save_nifti: Save) -> None:
    save_nifti(root / "imagesTr" / "a.nii.gz", ARRAY)
    assert not has_subjects(root)
    (root / "cases.csv").write_text("case,subject\na,S1\n")
    assert has_subjects(root)
    assert has_subjects(root.parent)  # one folder for each site


def test_the_training_list_of_dataset_json_is_followed(root: Path, save_nifti: Save) -> None:
    for name in ("c1", "c2"):
        save_nifti(root / "imagesTr" / f"{name}.nii.gz", ARRAY)
    listed = [{"image": "./imagesTr/c2.nii.gz", "label": "./labelsTr/c2.nii.gz"}]
    (root / "dataset.json").write_text(json.dumps({"training": listed}))
    (entry,) = read_entries(root, num_channels=1)["data"]
    assert entry.case == "c2"
    assert entry.label == root / "labelsTr" / "c2.nii.gz"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "dataset.json: is no JSON object"),
        ("[1]", "dataset.json: is no JSON object"),
        ('{"training": [{"label": "x"}]}', "dataset.json training[0]: names no image"),
        ('{"training": 3}', "dataset.json training[0]: names no image"),
        ('{"training": [{"image": "../../x.nii.gz"}]}', "leads outside the data folder"),
        ('{"training": [{"image": "a/x.nii"}, {"image": "b/x.nii"}]}', "is listed twice"),
        ('{"training": [{"image": "a/x y.nii"}]}', "'x y' is no safe file name"),
    ],
)
def test_a_broken_dataset_json_is_named(root: Path, text: str, expected: str) -> None:
    (root / "imagesTr").mkdir()
    (root / "dataset.json").write_text(text)
    assert expected in message(root)


def test_channels_in_files_of_their_own(root: Path, save_nifti: Save) -> None:
    for case in ("c1", "c2"):
        for channel in range(2):
            save_nifti(root / "imagesTr" / f"{case}_{channel:04d}.nii.gz", ARRAY)
        save_nifti(root / "labelsTr" / f"{case}.nii.gz", ARRAY)
    first, second = read_entries(root, num_channels=2)["data"]
    assert [path.name for path in first.images] == ["c1_0000.nii.gz", "c1_0001.nii.gz"]
    assert second.label == root / "labelsTr" / "c2.nii.gz"
    table(root, "case,subject,site\nc1,S1,a\n")
    assert "c1_0001.nii.gz is one channel more than the study names" in message(root)
    assert len(read_entries(root, num_channels=2)["a"][0].images) == 2


def test_a_labels_folder_promises_a_label_for_each_image(root: Path, save_nifti: Save) -> None:
    table(root, "case,subject,site\nc1,S1,a\nc2,S2,a\n")
    save_nifti(root / "imagesTr" / "c1.nii.gz", ARRAY)
    save_nifti(root / "imagesTs" / "c2.nii.gz", ARRAY)
    (root / "labelsTr").mkdir()
    first, second = read_entries(root, num_channels=1)["a"]
    assert first.label == root / "labelsTr" / "c1.nii.gz"
    assert second.label is None


@pytest.mark.parametrize("path", ["../x.nii.gz", "/etc/passwd", "a/../../x.nii", "link.nii.gz"])
def test_paths_may_not_leave_the_folder(root: Path, path: str) -> None:
    outside = root.parent / "outside.nii.gz"
    outside.write_bytes(b"")
    (root / "link.nii.gz").symlink_to(outside)
    table(root, f"case,subject,site,image,label\nc1,S1,a,{path},\nc2,S2,a,in.nii,{path}\n")
    found = message(root)
    assert found.count("leads outside the data folder") == 2
    assert "sites.csv line 2" in found


def test_a_linked_folder_outside_is_refused(root: Path, save_nifti: Save) -> None:
    save_nifti(root.parent / "elsewhere" / "c1.nii.gz", ARRAY)
    (root / "imagesTr").symlink_to(root.parent / "elsewhere")
    table(root, "case,subject,site\nc1,S1,a\n")
    assert "leads outside the data folder" in message(root)


def test_two_files_for_one_case_are_ambiguous(root: Path, save_nifti: Save) -> None:
    table(root, "case,subject,site\nc1,S1,a\n")
    for name in ("c1.nii", "c1.nii.gz"):
        save_nifti(root / "images" / name, ARRAY)
    assert "case 'c1' has images/c1.nii.gz and images/c1.nii" in message(root)


def test_unknown_folders_say_what_is_known(root: Path) -> None:
    with pytest.raises(DataFolderError, match=r"FV-DATA-001 .*is no folder"):
        read_entries(root / "absent", num_channels=1)
    with pytest.raises(DataFolderError, match="holds no case table"):
        read_entries(root, num_channels=1)
    (root / "imagesTr").mkdir()
    with pytest.raises(DataFolderError, match="holds no volume"):
        read_entries(root, num_channels=1)
    for name in ("sites.csv", "cases.csv"):
        table(root, "case,subject,site\n", name=name)
    with pytest.raises(DataFolderError, match="holds both"):
        read_entries(root, num_channels=1)
