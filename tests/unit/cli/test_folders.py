"""A new folder is whole or not there."""

from pathlib import Path

import pytest

from fedvol.cli.folders import new_folder
from fedvol.errors import OutputFolderError


def test_takes_its_name_on_success(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b"
    with new_folder(target) as working:
        (working / "x").write_text("1")
        assert not target.exists()
    assert (target / "x").read_text() == "1"
    assert [path.name for path in target.parent.iterdir()] == ["b"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with new_folder(tmp_path / "a") as working:
        (working / "x").touch()
    assert (tmp_path / "a" / "x").exists()


def test_leaves_nothing_after_failure(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "a") as working:
        (working / "x").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_leavings_of_a_killed_process_are_replaced(tmp_path: Path) -> None:
    (tmp_path / ".a.part").mkdir()
    (tmp_path / ".a.part" / "old").touch()
    with new_folder(tmp_path / "a") as working:
        (working / "x").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


@pytest.mark.parametrize("kind", ["full", "file"])
def test_refuses_what_is_there(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "a"
    if kind == "full":
        target.mkdir()
        (target / "x").touch()
    else:
        target.touch()
    with pytest.raises(OutputFolderError), new_folder(target):
        pytest.fail("must not get here")
    assert target.exists()


def test_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputFolderError), new_folder(tmp_path / "file" / "a"):
        pytest.fail("must not get here")
