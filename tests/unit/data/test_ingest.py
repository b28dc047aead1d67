import importlib
import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import pytest

from fedvol.config.data import DataRequirement, Preprocessing
from fedvol.data.case_store import CaseStore
from fedvol.data.case_work import CaseTask, case_outcome, process_case
from fedvol.data.catalogue import CaseRecord
from fedvol.data.child import Fault, Limits, map_limited
from fedvol.data.ingest import ingest
from fedvol.data.layout import read_entries
from fedvol.data.splits import assign_splits
from fedvol.errors import (
    DuplicateVolumeError,
    NoCasesError,
    SiteFailedError,
    StoreError,
    TooManySkippedError,
)
from fedvol.types import SiteId

Ingest = Callable[..., tuple[CaseRecord, ...]]


@pytest.fixture
def run(
    data_folder,
    requirement: DataRequirement,
    preprocessing: Preprocessing,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Ingest:
    """Ingest the data folder; in this process where no number of workers is given."""

    def here(function, tasks, **_):
        yield from ((position, function(task)) for position, task in enumerate(tasks))

    def run_ingest(**changes) -> tuple[CaseRecord, ...]:
        monkeypatch.setattr(
            "fedvol.data.ingest.map_limited", map_limited if "workers" in changes else here
        )
        asked = requirement.model_copy(update=changes.pop("requirement", {}))
        entries = read_entries(data_folder.finish(), num_channels=1)
        return ingest(
            entries,
            requirement=asked,
            preprocessing=preprocessing,
            splits=assign_splits(entries, config=asked.split),
            stores={site: tmp_path / "stores" / site for site in entries},
            **changes,
        )

    return run_ingest


@pytest.fixture
def two_sites(data_folder):
    """Two sites with five cases each; folds 0 and 1 are test and validation."""
    for site in "ab":
        for number in range(5):
            data_folder.add(f"{site}{number}", site=site, fold=number)
    return data_folder


def leftovers(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "stores").rglob("*.part"))


def verdicts(records: tuple[CaseRecord, ...]) -> dict[str, str]:
    return {record.case: record.verdict for record in records if record.verdict}


def test_workers_change_nothing_and_a_second_run_prepares_nothing(
    two_sites, run: Ingest, tmp_path: Path
) -> None:
    told: list[str] = []
    records = run(workers=2, on_case=lambda record: told.append(record.case))
    assert [r.case for r in records] == [f"{site}{n}" for site in "ab" for n in range(5)]
    assert sorted(told) == [r.case for r in records]
    assert not verdicts(records)
    stored = {p: p.stat().st_mtime_ns for p in (tmp_path / "stores").rglob("*.case")}
    assert len(stored) == 10
    assert run(workers=1) == run() == records
    assert {p: p.stat().st_mtime_ns for p in stored} == stored
    record = records[0]
    assert (record.split, record.images, record.label) == (
        "test",
        ("imagesTr/a0.nii.gz",),
        "labelsTr/a0.nii.gz",
    )
    assert record.voxels == {"head": 24, "tail": 24}
    label = CaseStore(tmp_path / "stores" / "a").open(record.case).label()
    assert np.bincount(label.ravel()).tolist() == [512 - 48, 24, 24]


def test_changed_settings_and_changed_files_are_prepared_anew(
    two_sites, run: Ingest, preprocessing: Preprocessing, tmp_path: Path, sound_case
) -> None:
    run()
    path = tmp_path / "stores" / "a" / "a3.case"
    before = path.read_bytes()
    two_sites.rows.remove("a3,S-a3,a,3")
    two_sites.add("a3", fold=3, image=sound_case(99)[0])
    run()
    assert path.read_bytes() != before
    key = CaseStore(path.parent).open(read_entries(two_sites.root, num_channels=1)["a"][3].case).key
    run(requirement={"labels": {"tail": 2, "head": 1, "body": 3}})
    assert CaseStore(path.parent).open(run()[3].case).key == key


def test_broken_cases_are_skipped_by_name_and_nothing_is_half_written(
    two_sites, run: Ingest, tmp_path: Path, sound_case, save_nifti
) -> None:
    image, label = sound_case(50)
    save_nifti(two_sites.image("a2"), np.full_like(image, 3))
    save_nifti(two_sites.label("a3"), np.zeros_like(label))
    two_sites.image("b2").write_bytes(two_sites.image("b2").read_bytes()[:200])
    two_sites.label("b3").unlink()
    records = run(requirement={"max_skipped_share": 0.5})
    assert verdicts(records) == {
        "a2": "FV-DATA-010",
        "a3": "FV-DATA-012",
        "b2": "FV-DATA-003",
        "b3": "FV-DATA-004",
    }
    skipped = {record.case: record for record in records if record.verdict}
    assert skipped["b2"].reason.startswith("FV-DATA-003 case b/b2, file imagesTr/b2.nii.gz: ")
    assert skipped["b2"].shape is None
    assert not leftovers(tmp_path)
    assert CaseStore(tmp_path / "stores" / "b").cases() == ("b0", "b1", "b4")


def _never(*_: object, **__: object) -> None:
    raise AssertionError("cannot be")


def test_an_assertion_of_ours_is_no_fault_of_a_case(
    two_sites, run: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedvol.data.case_work.check_case", _never)  # stands in foreign code
    with pytest.raises(TooManySkippedError, match="FV-DATA-003"):
        run()
    ours = FunctionType(_never.__code__, {**globals(), "__name__": "fedvol.data.checks"})
    monkeypatch.setattr("fedvol.data.case_work.check_case", ours)
    with pytest.raises(AssertionError, match=r"case a/a0: (?s:.*)AssertionError: cannot be"):
        run()


def test_too_many_skipped_names_site_and_cases(two_sites, run: Ingest) -> None:
    two_sites.image("b2").write_bytes(b"")
    two_sites.image("b3").unlink()
    told = r"b skips 2 of 5 cases \(b2 FV-DATA-003, b3 FV-DATA-004\).*10%"
    with pytest.raises(TooManySkippedError, match=told):
        run()


def test_one_skipped_case_alone_is_never_too_many(two_sites, run: Ingest) -> None:
    two_sites.image("b2").write_bytes(b"")
    assert verdicts(run()) == {"b2": "FV-DATA-003"}
    assert verdicts(run(requirement={"max_skipped_share": 0.0})) == {"b2": "FV-DATA-003"}


@pytest.mark.parametrize(("fold", "split"), [(0, "test"), (1, "validation")])
def test_some_site_must_have_cases_to_judge_by(
    two_sites, run: Ingest, fold: int, split: str
) -> None:
    two_sites.image(f"a{fold}").write_bytes(b"")
    run()
    two_sites.image(f"b{fold}").write_bytes(b"")
    with pytest.raises(NoCasesError, match=rf"no site has a usable labelled {split} case\."):
        run()


def test_both_lacking_splits_are_named(two_sites, run: Ingest) -> None:
    for case in ("a0", "a1", "b0", "b1"):
        two_sites.label(case).unlink()
    with pytest.raises(NoCasesError, match="labelled validation or test case"):
        run(requirement={"max_skipped_share": 0.5})


def test_a_site_without_usable_training_cases_is_refused(two_sites, run: Ingest) -> None:
    for number in (2, 3, 4):
        two_sites.image(f"b{number}").unlink()
    with pytest.raises(NoCasesError, match="no usable labelled training case at b"):
        run(requirement={"max_skipped_share": 1.0})


@pytest.fixture
def bare(data_folder) -> Callable[[str], None]:
    """Add a site with five cases, of which those to train on have no label."""

    def add(site: str) -> None:
        (data_folder.root / "imagesTs").mkdir(exist_ok=True)
        for number in range(5):
            path = data_folder.add(f"{site}{number}", site=site, fold=number, labelled=number < 2)
            if number >= 2:
                path.rename(data_folder.root / "imagesTs" / path.name)

    return add


def test_unlabelled_training_cases_are_enough_to_pretrain(two_sites, bare, run: Ingest) -> None:
    bare("c")
    with pytest.raises(NoCasesError, match="no usable labelled training case at c"):
        run()
    records = [one for one in run(pretrains=True) if one.site == "c"]
    assert {one.split for one in records if one.is_labelled} == {"test", "validation"}
    assert sum(one.is_usable and one.split == "train" for one in records) == 3
    for number in (2, 3, 4):
        (two_sites.root / "imagesTs" / f"c{number}.nii.gz").write_bytes(b"")
    with pytest.raises(NoCasesError, match="no usable training case at c"):
        run(requirement={"max_skipped_share": 1.0}, pretrains=True)


def test_some_site_must_have_labels_to_train_on(bare, run: Ingest) -> None:
    for site in "ab":
        bare(site)
    with pytest.raises(NoCasesError, match="no site has a usable labelled training case"):
        run(pretrains=True)


def test_a_site_without_labels_is_kept_for_later(two_sites, run: Ingest, tmp_path: Path) -> None:
    for number in range(3):
        name = f"c{number}"
        path = two_sites.add(name, site="c", labelled=False)
        (two_sites.root / "imagesTs").mkdir(exist_ok=True)
        path.rename(two_sites.root / "imagesTs" / path.name)
    records = [record for record in run() if record.site == "c"]
    assert [(r.verdict, r.label, r.voxels) for r in records] == [("", None, None)] * 3
    assert not CaseStore(tmp_path / "stores" / "c").open(records[0].case).has_label


def test_the_same_image_twice(two_sites, run: Ingest, sound_case, save_nifti) -> None:
    image = sound_case(77)[0]
    save_nifti(two_sites.image("a2"), image)
    save_nifti(two_sites.image("a4"), image.astype("f8"))
    records = run(requirement={"max_skipped_share": 0.5})
    assert verdicts(records) == {"a4": "FV-DATA-015"}
    assert "same image as case a/a2" in records[4].reason
    save_nifti(two_sites.image("a0"), image)
    with pytest.raises(DuplicateVolumeError, match=r"a/a0 \(test\) and a/a2 \(train\)"):
        run(requirement={"max_skipped_share": 0.5})
    save_nifti(two_sites.image("a0"), sound_case(70)[0])
    save_nifti(two_sites.image("b2"), image)
    with pytest.raises(DuplicateVolumeError, match=r"a/a2 \(train\) and b/b2 \(train\)"):
        run(requirement={"max_skipped_share": 0.5})


def test_a_full_or_closed_store_ends_the_ingestion(two_sites, run: Ingest, tmp_path: Path) -> None:
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "a").write_text("a file in the way")
    with pytest.raises(StoreError, match="FV-STORE-000 case a/a0"):
        run()


def test_what_a_killed_run_was_writing_is_removed(two_sites, run: Ingest, tmp_path: Path) -> None:
    stale = tmp_path / "stores" / "a" / ".a0.case.4242.part"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half")
    run()
    assert not leftovers(tmp_path)


def test_a_volume_that_explodes_on_resampling_is_refused(
    two_sites, run: Ingest, save_nifti, sound_case
) -> None:
    image, label = sound_case(3)
    for path, array in ((two_sites.image("a2"), image), (two_sites.label("a2"), label)):
        save_nifti(path, array, affine=np.diag([90.0, 90, 90, 1]))
    records = run(requirement={"max_skipped_share": 0.5})
    assert verdicts(records) == {"a2": "FV-DATA-005"}


def test_an_unforeseen_fault_of_foreign_code_is_a_verdict(
    two_sites,
    requirement: DataRequirement,
    preprocessing: Preprocessing,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = read_entries(two_sites.finish(), num_channels=1)[SiteId("a")][0]
    task = CaseTask(entry=entry, split="train", store=tmp_path / "stores" / "a")
    for error, code in ((ZeroDivisionError("odd"), "FV-DATA-003"), (MemoryError(), "FV-DATA-005")):

        def fail(*args: object, error: Exception = error, **kwargs: object) -> None:
            raise error

        monkeypatch.setattr("fedvol.data.case_work.prepare", fail)
        record = process_case(task, requirement=requirement, preprocessing=preprocessing)
        assert record.verdict == code
        assert "case a/a0" in record.reason
    assert json.loads(case_outcome(task, requirement=requirement, preprocessing=preprocessing))[
        "record"
    ]["verdict"]


CHILD_TASKS = """
import os, time
import numpy as np

def crash_on_two(task):
    if task == 2:
        os.kill(os.getpid(), 11)
    return str(task).encode()

def hang_on_two(task):
    while task == 2:
        time.sleep(60)
    return str(task).encode()

def fill_memory_on_two(task):
    if task == 2:
        try:
            np.ones(1 << 28)
        except MemoryError:
            return b"refused"
    return str(task).encode()

class Unloadable:
    def __reduce__(self):
        return (int, ("not a number",))

    def __call__(self, task):
        return b""
"""


@pytest.fixture
def child_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that a child process can import too."""
    name = f"child_tasks_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(CHILD_TASKS)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("crash_on_two", "ended with status -11"),
        ("hang_on_two", "took longer than 1 s"),
    ],
)
def test_a_lost_child_costs_one_task(child_tasks: ModuleType, function: str, expected: str) -> None:
    work = getattr(child_tasks, function)
    answers = dict(map_limited(work, range(5), workers=2, limits=Limits(seconds=1.0)))
    fault = answers.pop(2)
    assert isinstance(fault, Fault)
    assert expected in fault.what
    assert fault.process
    assert answers == {n: str(n).encode() for n in (0, 1, 3, 4)}
    assert not multiprocessing.active_children()


def test_memory_of_a_child_is_bounded(child_tasks: ModuleType) -> None:
    limits = Limits(memory_bytes=1 << 29)
    answers = dict(map_limited(child_tasks.fill_memory_on_two, range(4), limits=limits))
    assert answers[2] == b"refused"
    assert answers[3] == b"3"


def test_a_child_that_cannot_start_is_no_fault_of_a_case(child_tasks: ModuleType) -> None:
    with pytest.raises(SiteFailedError, match="ended before it was ready"):
        list(map_limited(child_tasks.Unloadable(), range(3)))
    assert not multiprocessing.active_children()
