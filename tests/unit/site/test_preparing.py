"""Prepared cases count only as long as they are those that the source's folder lists."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hospital import Server, add_to_config, joined, source_toml
from tiny import tiny_study

from fedvol.config import DataSource
from fedvol.errors import DataFolderError, NotPreparedError
from fedvol.site import SiteFolder
from fedvol.site.preparing import (
    cases_folder,
    check_source,
    is_prepared,
    prepare_cases,
    require_prepared,
)

STUDY = tiny_study()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> SiteFolder:
    """A site whose cases are prepared, over volumes that a test may change."""
    folder = tmp_path_factory.mktemp("hospital")
    held = joined(folder / "site", Server(folder=folder / "server"))
    home = min(path for path in tiny_data.iterdir() if path.is_dir())
    shutil.copytree(home, folder / "volumes")
    add_to_config(held, source_toml(folder / "volumes"))
    (source,) = held.config().data
    prepare_cases(held, source, STUDY, on_case=lambda record, done, total: None)
    return held


@pytest.fixture
def source(site: SiteFolder) -> DataSource:
    return site.config().data[0]


def touched(volumes: Path) -> None:
    image = min((volumes / "images").iterdir())
    os.utime(image, ns=(image.stat().st_atime_ns, image.stat().st_mtime_ns + 1))


def renamed(volumes: Path) -> None:
    table = volumes / "cases.csv"
    first, line, *rest = table.read_text().splitlines()
    case, subject, more = line.split(",", 2)
    table.write_text("\n".join([first, f"{case},{subject}x,{more}", *rest]) + "\n")


def shorter(volumes: Path) -> None:
    table = volumes / "cases.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")


def without_a_volume(volumes: Path) -> None:
    min((volumes / "images").iterdir()).unlink()


@pytest.mark.parametrize("change", [touched, renamed, shorter, without_a_volume])
def test_any_change_of_what_is_listed_counts(
    site: SiteFolder, source: DataSource, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    volumes = Path(source.folder)
    shutil.copytree(volumes, tmp_path / "kept")
    assert is_prepared(site, source, STUDY)
    try:
        change(volumes)
        assert not is_prepared(site, source, STUDY)
        with pytest.raises(NotPreparedError):
            require_prepared(site, source, STUDY)
    finally:
        shutil.rmtree(volumes)
        shutil.copytree(tmp_path / "kept", volumes)
    assert is_prepared(site, source, STUDY)


def test_looking_leaves_alone_what_another_process_is_writing(
    site: SiteFolder, source: DataSource
) -> None:
    part = cases_folder(site, source, STUDY) / "cases" / ".case.case.4711.part"
    part.write_bytes(b"half a case")
    check_source(site, source, STUDY)
    assert part.exists()
    part.unlink()


def test_a_folder_that_is_not_there_is_no_answer(
    site: SiteFolder, source: DataSource, tmp_path: Path
) -> None:
    volumes = Path(source.folder)
    volumes.rename(tmp_path / "away")
    with pytest.raises(DataFolderError):
        is_prepared(site, source, STUDY)
    (tmp_path / "away").rename(volumes)


@pytest.mark.parametrize("text", ["", '{"cases": 6}', "{}"])
def test_a_mark_that_says_no_listing_counts_for_nothing(
    site: SiteFolder, source: DataSource, text: str
) -> None:
    mark = cases_folder(site, source, STUDY) / "ready.json"
    kept = mark.read_text()
    mark.write_text(text)
    assert not is_prepared(site, source, STUDY)
    mark.write_text(kept)
    assert is_prepared(site, source, STUDY)
