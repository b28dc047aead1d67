"""Which files belong to a case: its own columns first, else by name in the layout's folders."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fedvol.data.case_table import CaseRow
from fedvol.errors import Problem

FOLDERS: Final = (("imagesTr", "labelsTr"), ("images", "labels"), ("imagesTs", None))
"""Folders of images, each with the folder of their labels."""

_SUFFIXES: Final = (".nii.gz", ".nii")
_NUMBERED = re.compile(r"(.+)_([0-9]{4})")


def files_of(
    row: CaseRow, *, folder: Path, num_channels: int
) -> tuple[tuple[Path, ...], Path | None, list[Problem]]:
    """Files of a case, present or not.

    Where the layout has a folder for labels, it promises a label for each of its images; a case is
    unlabelled only where there is no such folder, or where its own label cell is empty.

    Args:
        row: The case.
        folder: Folder of its table.
        num_channels: Channels the study asks for.

    Returns:
        Image files, the label file or None, and what is wrong with them.
    """
    problems: list[Problem] = []
    labels: str | None = None
    if row.images:
        images = tuple(folder / path for path in row.images)
    else:
        images, labels = _find_images(row, folder=folder, num_channels=num_channels, into=problems)
    if row.label is not None:
        return images, (folder / row.label if row.label else None), problems
    if row.images:
        labels = next((b for _, b in FOLDERS if b is not None and (folder / b).is_dir()), None)
    if labels is None or not (folder / labels).is_dir():
        return images, None, problems
    found = [p for s in _SUFFIXES if (p := folder / labels / f"{row.case}{s}").exists()]
    if len(found) > 1:
        problems.append(_ambiguous(row, found))
    expected = folder / labels / f"{row.case}.nii.gz"
    return images, (found[0] if found else expected), problems


def _find_images(
    row: CaseRow, *, folder: Path, num_channels: int, into: list[Problem]
) -> tuple[tuple[Path, ...], str | None]:
    """The image files of a case, present or not, and the folder where its label belongs."""
    places = [(folder / a, b) for a, b in FOLDERS if (folder / a).is_dir()]
    found: list[tuple[tuple[Path, ...], str | None]] = []
    for place, labels in places:
        for suffix in _SUFFIXES:
            if (path := place / f"{row.case}{suffix}").exists() or path.is_symlink():
                found.append(((path,), labels))
            numbered = [place / f"{row.case}_{n:04d}{suffix}" for n in range(num_channels + 1)]
            if numbered[0].exists():
                found.append((tuple(numbered[:-1]), labels))
            if numbered[-1].exists() and numbered[0].exists():
                into.append(
                    Problem(
                        where=row.where,
                        what=f"{numbered[-1].name} is one channel more than the study names",
                        fix="Name every channel in the study, or remove the file.",
                    )
                )
    if len(found) > 1:
        into.append(_ambiguous(row, [images[0] for images, _ in found]))
    if found:
        return found[0]
    place, labels = places[0] if places else (folder / "imagesTr", "labelsTr")
    return (place / f"{row.case}.nii.gz",), labels


def _ambiguous(row: CaseRow, paths: Sequence[Path]) -> Problem:
    names = " and ".join(f"{path.parent.name}/{path.name}" for path in paths)
    return Problem(
        where=row.where, what=f"case {row.case!r} has {names}", fix="Keep one of the two."
    )


def stays_inside(path: Path, *, root: Path) -> bool:
    """Whether neither the path as written nor what it links to leaves the data folder."""
    if ".." in path.parts or not path.is_relative_to(root) or "\0" in str(path):
        return False
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a loop of links
        return False


def case_names(folder: Path, *, num_channels: int) -> list[str]:
    """Cases of a folder: its volumes, or its groups `<case>_0000`, `<case>_0001` ..."""
    stems = sorted(
        stem_of(path.name)
        for path in folder.iterdir()
        if path.name.endswith(_SUFFIXES) and not path.name.startswith(".")
    )
    groups: dict[str, list[str]] = {}
    for stem in stems:
        if match := _NUMBERED.fullmatch(stem):
            groups.setdefault(match[1], []).append(match[2])
    whole = [f"{channel:04d}" for channel in range(num_channels)]
    if groups and sum(map(len, groups.values())) == len(stems) and whole in groups.values():
        return sorted(groups)
    return sorted(set(stems))


def stem_of(name: str) -> str:
    """A file's name without `.nii.gz` or `.nii`."""
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name
