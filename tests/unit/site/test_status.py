"""The status says what the process said last, and whether that process lives."""

import json
import os
from pathlib import Path

import pytest

from fedvol.errors import StoreError
from fedvol.site import SiteFolder, StatusFile, read_status


@pytest.fixture
def folder(tmp_path: Path) -> SiteFolder:
    return SiteFolder(folder=tmp_path)


def test_nothing_was_said_yet(folder: SiteFolder) -> None:
    assert read_status(folder) is None


def test_a_process_runs_until_it_ends(folder: SiteFolder) -> None:
    status = StatusFile(folder.status_file)
    status.event("link.up")
    said = read_status(folder)
    assert said is not None
    assert (said["is_running"], said["link"]["event"]) == (True, "link.up")
    status.close()
    said = read_status(folder)
    assert said is not None
    assert (said["is_running"], said["process"]) == (False, None)


def test_a_killed_process_whose_number_another_bears(folder: SiteFolder) -> None:
    StatusFile(folder.status_file).close()
    folder.status_file.write_text(json.dumps({"process": os.getpid()}))
    said = read_status(folder)
    assert said is not None
    assert said["is_running"] is False


@pytest.mark.parametrize("text", ["", "[]", "1"])
def test_a_damaged_file(folder: SiteFolder, text: str) -> None:
    folder.status_file.write_text(text)
    with pytest.raises(StoreError):
        read_status(folder)
