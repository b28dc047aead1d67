"""What a wheel holds, and what its metadata says."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_the_whole_package_and_nothing_else(wheel_names: set[str]) -> None:
    package = {
        str(path.relative_to(REPOSITORY))
        for path in (REPOSITORY / "fedvol").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    outside = {name for name in wheel_names if ".dist-info/" not in name}
    assert outside == package


@pytest.mark.parametrize(
    "name",
    ["fedvol/py.typed", "fedvol/cli/demo.toml", "fedvol/report/templates/report.html.j2"],
)
def test_wheel_holds_data_files(wheel_names: set[str], name: str) -> None:
    assert name in wheel_names


def test_every_direct_dependency_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[\[<>=]", item)[0].strip().lower() for item in wanted}
    pinned = {
        line.split("==")[0].strip().lower()
        for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert not names - pinned
