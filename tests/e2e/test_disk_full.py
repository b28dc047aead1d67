"""A disk that fills up stops the run with status 7; with space again it ends with the same bits."""

from collections.abc import Callable
from pathlib import Path

import pytest
from small_disk import small_disk
from tiny import figures, half_written

from fedvol.data import CaseRecord
from fedvol.errors import DiskFullError
from fedvol.files import digest_file
from fedvol.store import SqlCatalogue
from fedvol.types import CaseId, SiteId, SubjectId


def fill_and_free(fedvol: Callable[..., object], tiny_run, folder: Path, sizes: list[int]) -> None:
    with small_disk(folder, kilobytes=sizes[0]) as disk:
        out = folder / "out"
        words = ["simulate", tiny_run.study, "--data", tiny_run.data, "--out", out]
        words += ["--device", "cpu"]
        stops: list[str] = []
        for kilobytes in sizes:
            disk.resize(kilobytes)
            ended = fedvol(*words)
            assert (ended.status, "FV-STORE-004" in ended.err) == (7, True), ended.err  # type: ignore[attr-defined]
            assert not (out / "result.json").exists()
            assert half_written(out) == []
            stops.append(ended.err)  # type: ignore[attr-defined]
            words += ["--resume"] if "--resume" not in words else []
        disk.resize(64_000)
        ended = fedvol(*words)
        assert ended.status == 0, ended.err  # type: ignore[attr-defined]
        released = Path("checkpoints/federated.safetensors")
        assert digest_file(out / released) == digest_file(tiny_run.out / released)
        found, expected = figures(out / "result.json"), figures(tiny_run.out / "result.json")
        assert found["evaluation"]["federated"] == expected["evaluation"]["federated"]
        assert found["stages"] == expected["stages"]
        assert half_written(out) == []


def test_a_disk_that_fills_up(fedvol, tiny_run, tmp_path: Path) -> None:
    """While volumes are prepared, at a site in a round, and while the report is written."""
    fill_and_free(fedvol, tiny_run, tmp_path / "disk", [150, 900, 1400])


@pytest.mark.parametrize("kilobytes", range(8, 72, 12))
def test_a_database_on_a_full_disk_says_so(kilobytes: int, tmp_path: Path) -> None:
    """Whether its tables, its log or the index beside the log finds no space."""
    records = [
        CaseRecord(
            site=SiteId("a"), case=CaseId(f"{number}"), subject=SubjectId("s"), split="train",
            images=("image.nii.gz",), label=None,
        )
        for number in range(100)
    ]  # fmt: skip
    folder = tmp_path / "disk"
    with small_disk(folder, kilobytes=kilobytes), pytest.raises(DiskFullError):
        SqlCatalogue(folder / "catalogue.db", record=CaseRecord).replace(records)


@pytest.mark.full
@pytest.mark.parametrize("first", range(100, 1500, 100))
def test_a_disk_that_fills_up_anywhere(first: int, fedvol, tiny_run, tmp_path: Path) -> None:
    fill_and_free(fedvol, tiny_run, tmp_path / "disk", [first])
