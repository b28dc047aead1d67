"""Which cases a data folder holds: case tables, Medical Segmentation Decathlon and plain layout."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from fedvol.data.case_files import FOLDERS, case_names, files_of, stays_inside, stem_of
from fedvol.data.case_table import (
    CaseRow,
    SplitName,
    is_safe_case_name,
    is_safe_site_name,
    read_case_table,
    similar_subjects,
)
from fedvol.data.csv_text import MAX_TABLE_BYTES
from fedvol.errors import CaseTableError, DataFolderError, Problem
from fedvol.types import CaseId, SiteId, SubjectId

TABLE_NAMES: Final = ("sites.csv", "cases.csv")
"""What a case table may be called."""

_KNOWN_LAYOUTS: Final = (
    "Put sites.csv (case, subject, site) beside imagesTr and labelsTr, or give each site a folder "
    "with cases.csv."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEntry:
    """One case as the data folder lists it; its files are not opened yet.

    Attributes:
        case: Name, unique inside its site.
        subject: Pseudonym of the patient.
        site: Hospital.
        root: The data folder; records name files relative to it.
        fold: Fold, where the table names one.
        split: Split, where the table names one.
        images: One file with every channel, or one file for each channel in order.
        label: Label volume; None for a case without one.
    """

    case: CaseId
    subject: SubjectId
    site: SiteId
    root: Path
    fold: int | None
    split: SplitName | None
    images: tuple[Path, ...]
    label: Path | None


def read_entries(root: Path, *, num_channels: int) -> dict[SiteId, tuple[CaseEntry, ...]]:
    """List the cases of every site in a data folder.

    Three layouts are known: one case table beside the volumes; one folder for each site, each
    with its own table; an MSD folder without a table, taken as one site named after the folder
    where every case is a subject of its own. A file that is named but absent is no error here:
    its case is skipped by name later.

    Args:
        root: The data folder.
        num_channels: Channels the study asks for.

    Returns:
        Per site its cases by name; sites by name.

    Raises:
        DataFolderError: The folder is absent, holds no layout we know, or two tables.
        CaseTableError: A table is wrong; carries every problem of every table.
    """
    if not root.is_dir():
        raise DataFolderError(str(root), "is no folder", "Check the path of the data.")
    root = root.resolve()
    problems: list[Problem] = []
    if (table := _table(root)) is not None:
        rows, found = read_case_table(table, num_channels=num_channels)
        problems.extend(found)
        entries = _entries(rows, folder=root, root=root, num_channels=num_channels, into=problems)
    elif folders := [folder for folder in _subfolders(root) if _table(folder) is not None]:
        entries = _site_folders(folders, root=root, num_channels=num_channels, into=problems)
    elif (root / "imagesTr").is_dir():
        rows = _rows_without_table(root, num_channels=num_channels, into=problems)
        entries = _entries(rows, folder=root, root=root, num_channels=num_channels, into=problems)
    else:
        raise DataFolderError(str(root), "holds no case table and no imagesTr", _KNOWN_LAYOUTS)
    if problems:
        raise CaseTableError(str(root), problems)
    sites = sorted({entry.site for entry in entries})
    ordered = sorted(entries, key=lambda entry: entry.case)
    return {site: tuple(entry for entry in ordered if entry.site == site) for site in sites}


def has_subjects(root: Path) -> bool:
    """Whether a table of a data folder names subjects; if not, each case counts as one."""
    return any(_table(folder) is not None for folder in (root, *_subfolders(root)))


def read_site_entries(root: Path, *, site: SiteId, num_channels: int) -> tuple[CaseEntry, ...]:
    """List the cases of a folder that holds one hospital's volumes alone.

    Args:
        root: The folder: volumes with a case table, or an MSD folder without one. The table needs
            no column `site`; where it has one, it must name this site.
        site: The hospital.
        num_channels: Channels the study asks for.

    Returns:
        Its cases by name.

    Raises:
        DataFolderError: The folder is absent, holds no layout we know, or two tables.
        CaseTableError: The table is wrong; carries every problem.
    """
    if not root.is_dir():
        raise DataFolderError(str(root), "is no folder", "Check the path of the data.")
    root = root.resolve()
    problems: list[Problem] = []
    if (table := _table(root)) is not None:
        rows, found = read_case_table(table, num_channels=num_channels, site=site)
        problems.extend(found)
    elif (root / "imagesTr").is_dir():
        rows = _rows_without_table(root, num_channels=num_channels, into=problems)
    else:
        raise DataFolderError(
            str(root),
            "holds no case table and no imagesTr",
            "Put cases.csv (case, subject) beside imagesTr and labelsTr.",
        )
    entries = _entries(rows, folder=root, root=root, num_channels=num_channels, into=problems)
    if problems:
        raise CaseTableError(str(root), problems)
    return tuple(sorted(entries, key=lambda entry: entry.case))


def _table(folder: Path) -> Path | None:
    tables = [folder / name for name in TABLE_NAMES if (folder / name).is_file()]
    if len(tables) > 1:
        raise DataFolderError(
            str(folder), f"holds both {' and '.join(TABLE_NAMES)}", "Keep one of the two."
        )
    return tables[0] if tables else None


def _subfolders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _site_folders(
    folders: Sequence[Path], *, root: Path, num_channels: int, into: list[Problem]
) -> list[CaseEntry]:
    """One site for each folder with a table; a folder with volumes but no table is a problem."""
    into.extend(
        Problem(
            where=other.name,
            what="holds volumes but no case table",
            fix="Add cases.csv with the columns case and subject, or move the folder away.",
        )
        for other in _subfolders(root)
        if other not in folders and any((other / images).is_dir() for images, _ in FOLDERS)
    )
    entries: list[CaseEntry] = []
    every_row: list[CaseRow] = []
    for folder in folders:
        if not _may_be_site(folder, root=root, into=into):
            continue
        table = _table(folder)
        assert table is not None
        rows, found = read_case_table(table, num_channels=num_channels, site=SiteId(folder.name))
        into.extend(_inside(folder.name, found))
        found = []
        entries += _entries(rows, folder=folder, root=root, num_channels=num_channels, into=found)
        into.extend(_inside(folder.name, found))
        every_row += rows
    into.extend(p for p in similar_subjects(every_row) if p not in into)
    return entries


def _may_be_site(folder: Path, *, root: Path, into: list[Problem]) -> bool:
    if not folder.resolve().is_relative_to(root):
        into.append(
            Problem(
                where=folder.name, what="leads outside the data folder", fix="Copy the site here."
            )
        )
        return False
    if not is_safe_site_name(folder.name):
        into.append(
            Problem(
                where=repr(folder.name),
                what="is no safe name of a site",
                fix="Use letters, digits, dot, dash and underscore only.",
            )
        )
        return False
    return True


def _inside(folder: str, problems: Iterable[Problem]) -> list[Problem]:
    return [Problem(where=f"{folder}/{p.where}", what=p.what, fix=p.fix) for p in problems]


def _rows_without_table(
    root: Path, *, num_channels: int, into: list[Problem]
) -> tuple[CaseRow, ...]:
    """Rows of an MSD folder: the training list of `dataset.json`, else what `imagesTr` holds."""
    if not is_safe_site_name(root.name):
        raise DataFolderError(
            str(root), "is no safe name of a site", "Rename the folder or add sites.csv."
        )
    listed = _listed_in_json(root / "dataset.json", into=into)
    if listed is None:
        names = case_names(root / "imagesTr", num_channels=num_channels)
        listed = [(f"imagesTr/{name}", name, (), None) for name in names]
    rows: list[CaseRow] = []
    seen: set[str] = set()
    for where, case, images, label in listed:
        if not is_safe_case_name(case):
            into.append(
                Problem(
                    where=where, what=f"case {case!r} is no safe file name", fix="Rename the file."
                )
            )
            continue
        if case in seen:
            into.append(
                Problem(where=where, what=f"case {case!r} is listed twice", fix="List it once.")
            )
            continue
        seen.add(case)
        rows.append(
            CaseRow(
                where=where,
                case=CaseId(case),
                subject=SubjectId(case),
                site=SiteId(root.name),
                images=images,
                label=label,
            )
        )
    if not rows and not into:
        raise DataFolderError(str(root), "holds no volume in imagesTr", _KNOWN_LAYOUTS)
    return tuple(rows)


def _listed_in_json(
    path: Path, *, into: list[Problem]
) -> list[tuple[str, str, tuple[str, ...], str | None]] | None:
    """(where, case, images, label) of the training list; None without file or without list."""
    if not path.is_file():
        return None
    broken = Problem(
        where=path.name, what="is no JSON object", fix="Restore it, or remove it to list imagesTr."
    )
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise ValueError("too large")
        document: Any = json.loads(path.read_bytes())
        training: Any = document.get("training")
    except (OSError, ValueError, RecursionError, AttributeError):
        into.append(broken)
        return []
    if training is None:
        return None
    listed: list[tuple[str, str, tuple[str, ...], str | None]] = []
    for number, item in enumerate(training if isinstance(training, list) else [training]):
        where = f"{path.name} training[{number}]"
        image = item.get("image") if isinstance(item, dict) else None
        label = item.get("label", "") if isinstance(item, dict) else None
        if not isinstance(image, str) or not isinstance(label, str) or not image:
            into.append(
                Problem(
                    where=where, what="names no image", fix='Write {"image": PATH, "label": PATH}.'
                )
            )
            continue
        listed.append((where, stem_of(PurePosixPath(image).name), (image,), label))
    return listed


def _entries(
    rows: Sequence[CaseRow],
    *,
    folder: Path,
    root: Path,
    num_channels: int,
    into: list[Problem],
) -> list[CaseEntry]:
    entries: list[CaseEntry] = []
    for row in rows:
        images, label, found = files_of(row, folder=folder, num_channels=num_channels)
        found += [
            Problem(
                where=row.where,
                what=f"{str(path)!r} leads outside the data folder",
                fix="Copy the volumes below the data folder and write relative paths.",
            )
            for path in (*images, *((label,) if label is not None else ()))
            if not stays_inside(path, root=root)
        ]
        into.extend(found)
        if not found:
            entries.append(
                CaseEntry(
                    case=row.case,
                    subject=row.subject,
                    site=row.site,
                    root=root,
                    fold=row.fold,
                    split=row.split,
                    images=images,
                    label=label,
                )
            )
    return entries
