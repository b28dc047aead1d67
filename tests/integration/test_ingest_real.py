"""Every real volume at hand is ingested without a fault."""

import shutil
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np

from fedvol.config.data import DataRequirement, Preprocessing
from fedvol.data.case_store import CaseStore
from fedvol.data.catalogue import CaseRecord
from fedvol.data.ingest import ingest
from fedvol.data.layout import read_entries
from fedvol.data.splits import assign_splits
from fedvol.store.catalogue import SqlCatalogue


def ingest_folder(
    root: Path, *, out: Path, requirement: str, preprocessing: str
) -> tuple[CaseRecord, ...]:
    asked = DataRequirement.model_validate_json(requirement)
    entries = read_entries(root, num_channels=1)
    return ingest(
        entries,
        requirement=asked,
        preprocessing=Preprocessing.model_validate_json(preprocessing),
        splits=assign_splits(entries, config=asked.split),
        stores={site: out / site for site in entries},
        workers=2,
    )


def test_every_hippocampus_is_ingested(fedvol_data: Path, tmp_path: Path) -> None:
    records = ingest_folder(
        fedvol_data / "msd_hippocampus",
        out=tmp_path,
        requirement="""{"channels": ["t1"], "labels": {"anterior": 1, "posterior": 2},
            "split": {"kind": "fold", "test": 0, "validation": 1}}""",
        preprocessing='{"spacing_mm": [1, 1, 1], "normalisation": {"kind": "z_score"}}',
    )
    assert {record.verdict for record in records} == {""}
    sites = Counter(record.site for record in records)
    assert sites == {"site_a": 41, "site_b": 24, "site_c": 65, "site_d": 67}
    assert {(record.site, record.split) for record in records} == {
        (site, split) for site in sites for split in ("train", "validation", "test")
    }
    table = (fedvol_data / "msd_hippocampus" / "sites.csv").read_text().splitlines()
    header = table[0].split(",")
    rows = {
        row["case"]: row
        for row in (dict(zip(header, r.split(","), strict=True)) for r in table[1:])
    }
    for record in records:
        row = rows[record.case]
        assert record.shape == (int(row["size_x"]), int(row["size_y"]), int(row["size_z"]))
        assert record.voxels == {
            "anterior": int(row["voxels_anterior"]),
            "posterior": int(row["voxels_posterior"]),
        }
    catalogue = SqlCatalogue(tmp_path / "catalogue.db", record=CaseRecord)
    catalogue.replace(records)
    assert catalogue.records() == tuple(sorted(records, key=lambda r: (r.site, r.case)))
    catalogue.close()
    assert not list(tmp_path.rglob("*.part"))


def write_crop(root: Path, *, side: int) -> None:
    """Small validation and test cases: data without any is refused."""
    label = nib.nifti1.load(root / "spleen_2_label.nii.gz")
    middle = np.median(np.argwhere(np.asarray(label.dataobj) == 1), axis=0).astype(int)
    box = tuple(slice(max(0, m - side // 2), m + side // 2) for m in middle)
    for kind in ("image", "label"):
        whole = nib.nifti1.load(root / f"spleen_2_{kind}.nii.gz")
        nib.save(whole.slicer[box], root / f"crop_{side}_{kind}.nii.gz")


def test_the_spleen_is_ingested_at_another_spacing(fedvol_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "ct"
    root.mkdir()
    for kind in ("image", "label"):
        shutil.copy(fedvol_data / "msd_spleen_sample" / f"spleen_2_{kind}.nii.gz", root)
    (root / "cases.csv").write_text(
        "case,subject,site,split,image,label\n"
        "spleen_2,P1,ct,train,spleen_2_image.nii.gz,spleen_2_label.nii.gz\n"
        "crop_16,P2,ct,validation,crop_16_image.nii.gz,crop_16_label.nii.gz\n"
        "crop_12,P3,ct,test,crop_12_image.nii.gz,crop_12_label.nii.gz\n"
    )
    for side in (16, 12):
        write_crop(root, side=side)
    *crops, record = ingest_folder(
        root,
        out=tmp_path / "out",
        requirement="""{"channels": ["ct"], "labels": {"spleen": 1},
            "split": {"kind": "column"}}""",
        preprocessing="""{"spacing_mm": [1.6, 1.6, 5.0],
            "normalisation": {"kind": "window", "window_hu": [-100, 300]}}""",
    )
    assert [one.verdict for one in (*crops, record)] == ["", "", ""]
    assert record.shape == (164, 166, 26)
    assert record.voxels == {"spleen": 96_672}
    stored = CaseStore(tmp_path / "out" / "ct").open(record.case)
    np.testing.assert_allclose(stored.spacing_mm, (1.6, 1.6, 5.0), rtol=1e-6)
    volume_ml = (stored.label() == 1).sum() * np.prod(stored.spacing_mm) / 1000
    assert volume_ml == np.clip(volume_ml, 0.97 * 305.4, 1.03 * 305.4)
