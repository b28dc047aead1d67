"""A small data folder that tests fill with sound and broken cases."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fedvol.config.data import DataRequirement, Preprocessing

SIDE = 8


def sound_image(seed: int = 0, *, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, (side, side, side)).astype(np.float32)


def sound_label(*, side: int = SIDE) -> np.ndarray:
    label = np.zeros((side, side, side), np.uint8)
    label[2:4, 2:5, 2:6] = 1
    label[5:7, 2:5, 2:6] = 2
    return label


def save(path: Path, array: np.ndarray, *, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine, dtype=array.dtype)
    nib.save(image, path)
    return path


@dataclass
class DataFolder:
    """An MSD folder with a case table, written by `finish`."""

    root: Path
    rows: list[str] = field(default_factory=list)

    def add(
        self,
        case: str,
        *,
        subject: str | None = None,
        site: str = "a",
        fold: int = 2,
        image: np.ndarray | None = None,
        label: np.ndarray | None = None,
        labelled: bool = True,
    ) -> Path:
        """Add a case; gives back the path of its image."""
        seed = len(self.rows)
        self.rows.append(f"{case},{subject or 'S-' + case},{site},{fold}")
        if labelled:
            save(self.label(case), sound_label() if label is None else label)
        return save(self.image(case), sound_image(seed) if image is None else image)

    def image(self, case: str) -> Path:
        return self.root / "imagesTr" / f"{case}.nii.gz"

    def label(self, case: str) -> Path:
        return self.root / "labelsTr" / f"{case}.nii.gz"

    def finish(self) -> Path:
        text = "\n".join(["case,subject,site,fold", *self.rows]) + "\n"
        (self.root / "sites.csv").write_text(text)
        return self.root


@pytest.fixture
def data_folder(tmp_path: Path) -> DataFolder:
    root = tmp_path / "data"
    root.mkdir()
    return DataFolder(root)


@pytest.fixture
def sound_case() -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """Image and label of a case that passes every check."""
    return lambda seed: (sound_image(seed), sound_label())


@pytest.fixture
def save_nifti() -> Callable[..., Path]:
    """Write an array as NIfTI."""
    return save


@pytest.fixture
def requirement() -> DataRequirement:
    return DataRequirement.model_validate_json(
        """{"channels": ["t1"], "labels": {"tail": 2, "head": 1}, "max_voxels": 100000,
            "split": {"kind": "fold", "test": 0, "validation": 1}}"""
    )


@pytest.fixture
def preprocessing() -> Preprocessing:
    return Preprocessing.model_validate_json(
        '{"spacing_mm": [1.0, 1.0, 1.0], "normalisation": {"kind": "z_score"}}'
    )
