"""The table of cases: one CSV, read whole, every problem found before any is reported."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, get_args

from fedvol.data.csv_text import read_text, split_cells
from fedvol.errors import Problem
from fedvol.types import CaseId, SiteId, SubjectId

SplitName = Literal["train", "validation", "test"]
"""What a case is for."""

_CASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_FOLD = re.compile(r"[0-9]{1,4}")
_IMAGE_COLUMN = re.compile(r"image_(0|[1-9][0-9]?)")
_FILLED_COLUMNS: Final = frozenset({"case", "subject", "site", "fold", "split"})
_SPLITS: Final[tuple[SplitName, ...]] = get_args(SplitName)
_SAFE_NAME = "Use letters, digits, dot, dash and underscore only, a letter or digit first."


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRow:
    """One row of a case table.

    Attributes:
        where: Table and line, for messages.
        case: Name of the case; safe as a file name.
        subject: Pseudonym of the patient.
        site: Hospital.
        fold: Fold, where the table has that column.
        split: Split, where the table has that column.
        images: Relative paths of the row's own image columns; empty without such columns.
        label: Relative path of the row's own label column; "" for a case without a label, None
            without such a column.
    """

    where: str
    case: CaseId
    subject: SubjectId
    site: SiteId
    fold: int | None = None
    split: SplitName | None = None
    images: tuple[str, ...] = ()
    label: str | None = None


def read_case_table(
    path: Path, *, num_channels: int, site: SiteId | None = None
) -> tuple[tuple[CaseRow, ...], tuple[Problem, ...]]:
    """Read a case table; never raises for what is in it.

    Args:
        path: CSV with the columns `case`, `subject`, `site`, optionally `fold`, `split`, `image`
            or `image_0` ..., `label`; other columns are ignored.
        num_channels: Channels the study asks for.
        site: Hospital of every row, where the folder says so; the column may then be absent.

    Returns:
        The sound rows in the table's order, and every problem found.
    """
    text, problems = read_text(path)
    if problems:
        return (), problems
    lines, problems = split_cells(path.name, text)
    if problems:
        return (), problems
    (_, header), *body = lines
    problems = _check_header(
        path.name, header, num_channels=num_channels, has_site=site is not None
    )
    if problems:
        return (), problems
    if not body:
        return (), (
            Problem(
                where=path.name, what="has a header but no case", fix="Add a row for each case."
            ),
        )
    rows: list[CaseRow] = []
    found: list[Problem] = []
    for line, cells in body:
        row = _parse_row(f"{path.name} line {line}", header, cells, site=site, problems=found)
        if row is not None:
            rows.append(row)
    found.extend(_repeated_cases(rows))
    found.extend(similar_subjects(rows))
    rows = [replace(row, subject=SubjectId(row.subject.strip())) for row in rows]
    return tuple(rows), tuple(found)


def is_safe_case_name(name: str) -> bool:
    """Whether a case may be called so; its files bear the name."""
    return _CASE_NAME.fullmatch(name) is not None


def is_safe_site_name(name: str) -> bool:
    """Whether a site may be called so; its folder bears the name."""
    return _SITE_NAME.fullmatch(name) is not None


def subject_key(subject: str) -> str:
    """What two spellings of one subject share: no case, no spaces, one Unicode form."""
    return "".join(unicodedata.normalize("NFKC", subject).casefold().split())


def similar_subjects(rows: Iterable[CaseRow]) -> list[Problem]:
    """Subjects that differ in case or spaces only: one patient, or two badly named."""
    spellings: dict[str, dict[str, str]] = {}
    for row in rows:
        spellings.setdefault(subject_key(row.subject), {}).setdefault(row.subject, row.where)
    return [
        Problem(
            where=", ".join(found.values()),
            what="subjects "
            + " and ".join(repr(subject) for subject in found)
            + " differ in case or spaces only",
            fix="Write one patient in one way, and two patients in clearly different ways.",
        )
        for found in spellings.values()
        if len(found) > 1
    ]


def _check_header(
    name: str, header: list[str], *, num_channels: int, has_site: bool
) -> tuple[Problem, ...]:
    header[:] = [cell.strip() for cell in header]
    where = f"{name} line 1"
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        mark = "semicolons" if ";" in header[0] else "tabs"
        return (
            Problem(where=where, what=f"separates columns by {mark}", fix="Save it with commas."),
        )
    problems: list[Problem] = []
    required = ("case", "subject") if has_site else ("case", "subject", "site")
    missing = [column for column in required if column not in header]
    if missing:
        present = ", ".join(repr(column) for column in header[:20])
        problems.append(
            Problem(
                where=where,
                what=f"lacks the columns {', '.join(missing)}; it has {present}",
                fix="Add them; names are in lower case.",
            )
        )
    doubled = sorted({column for column in header if column and header.count(column) > 1})
    if doubled:
        problems.append(
            Problem(
                where=where,
                what=f"names twice: {', '.join(doubled)}",
                fix="Keep one column of each name.",
            )
        )
    numbered = sorted(int(m[1]) for c in header if (m := _IMAGE_COLUMN.fullmatch(c)))
    if numbered and "image" in header:
        problems.append(
            Problem(
                where=where,
                what="has both image and image_<number> columns",
                fix="Keep one of the two.",
            )
        )
    if numbered and numbered != list(range(num_channels)):
        problems.append(
            Problem(
                where=where,
                what=f"has image columns {numbered}, the study asks for {num_channels} channels",
                fix=f"Number them from image_0 to image_{num_channels - 1}.",
            )
        )
    return tuple(problems)


def _parse_row(
    where: str,
    header: Sequence[str],
    cells: Sequence[str],
    *,
    site: SiteId | None,
    problems: list[Problem],
) -> CaseRow | None:
    if len(cells) != len(header):
        problems.append(
            Problem(
                where=where,
                what=f"has {len(cells)} cells, the header has {len(header)}",
                fix="Add or remove commas, or quote cells that hold one.",
            )
        )
        return None
    raw = dict(zip(header, cells, strict=True))
    row = {column: cell.strip() for column, cell in raw.items()}
    found = [
        *_empty_cells(where, row),
        *_bad_names(where, row),
        *_bad_values(where, row),
        *_wrong_site(where, row, site=site),
    ]
    if found:
        problems.extend(found)
        return None
    columns = sorted(filter(_is_image_column, header), key=lambda column: (len(column), column))
    return CaseRow(
        where=where,
        case=CaseId(row["case"]),
        subject=SubjectId(raw["subject"]),
        site=site if site is not None else SiteId(row["site"]),
        fold=int(row["fold"]) if "fold" in row else None,
        split=next((s for s in _SPLITS if s == row.get("split")), None),
        images=tuple(row[column] for column in columns),
        label=row.get("label"),
    )


def _is_image_column(column: str) -> bool:
    return column == "image" or _IMAGE_COLUMN.fullmatch(column) is not None


def _empty_cells(where: str, row: Mapping[str, str]) -> list[Problem]:
    return [
        Problem(
            where=where, what=f"column {column} is empty", fix="Fill in the cell or remove the row."
        )
        for column, cell in row.items()
        if not cell and (column in _FILLED_COLUMNS or _is_image_column(column))
    ]


def _bad_names(where: str, row: Mapping[str, str]) -> list[Problem]:
    problems: list[Problem] = []
    if row["case"] and not is_safe_case_name(row["case"]):
        problems.append(
            Problem(where=where, what=f"case {row['case']!r} is no safe file name", fix=_SAFE_NAME)
        )
    if row.get("site") and not is_safe_site_name(row["site"]):
        problems.append(
            Problem(where=where, what=f"site {row['site']!r} is no safe name", fix=_SAFE_NAME)
        )
    subject = row["subject"]
    if len(subject) > 128 or not subject.isprintable():
        problems.append(
            Problem(
                where=where,
                what="subject is longer than 128 characters or holds control characters",
                fix="Use a short pseudonym.",
            )
        )
    return problems


def _bad_values(where: str, row: Mapping[str, str]) -> list[Problem]:
    problems: list[Problem] = []
    if row.get("fold") and not _FOLD.fullmatch(row["fold"]):
        problems.append(
            Problem(
                where=where,
                what=f"fold {row['fold']!r} is no whole number from 0",
                fix="Write 0, 1, 2 ...",
            )
        )
    if row.get("split") and row["split"] not in _SPLITS:
        problems.append(
            Problem(
                where=where,
                what=f"split {row['split']!r} is unknown",
                fix=f"Write one of {', '.join(_SPLITS)}.",
            )
        )
    return problems


def _wrong_site(where: str, row: Mapping[str, str], *, site: SiteId | None) -> list[Problem]:
    if site is None or row.get("site", site) in (site, ""):
        return []
    return [
        Problem(
            where=where,
            what=f"names site {row['site']!r} in the folder of site {site!r}",
            fix="Move the case to its site's folder, or correct the cell.",
        )
    ]


def _repeated_cases(rows: Sequence[CaseRow]) -> list[Problem]:
    first: dict[str, CaseRow] = {}
    problems: list[Problem] = []
    for row in rows:
        earlier = first.setdefault(row.case.casefold(), row)
        if earlier is not row:
            problems.append(
                Problem(
                    where=row.where,
                    what=f"case {row.case!r} is already in {earlier.where}",
                    fix="Give each case a name of its own; upper and lower case do not count.",
                )
            )
    return problems
