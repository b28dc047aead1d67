"""Fixtures every test may use."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def fedvol_data() -> Path:
    """Folder of real volumes, from `FEDVOL_DATA`; its tests skip where it is absent."""
    folder = Path(os.environ.get("FEDVOL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real volumes: {folder} is absent; set FEDVOL_DATA")
    return folder
