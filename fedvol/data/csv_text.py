"""CSV files from outside, as lines of cells; every way of not being CSV becomes a problem."""

import csv
import io
from pathlib import Path
from typing import Final

from fedvol.errors import Problem

MAX_TABLE_BYTES: Final = 64 << 20
"""Largest table that is read."""


def read_text(path: Path) -> tuple[str, tuple[Problem, ...]]:
    """The table's text, with or without a byte order mark, or why there is none."""
    try:
        size = path.stat().st_size
        if size > MAX_TABLE_BYTES:
            return "", (
                Problem(
                    where=path.name,
                    what=f"is {size} bytes, more than the {MAX_TABLE_BYTES} a table may have",
                    fix="Keep one row for each case and nothing else.",
                ),
            )
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or "cannot be read"
        return "", (
            Problem(where=path.name, what=reason, fix="Check the path and its permissions."),
        )
    if b"\0" in data:
        return "", (
            Problem(
                where=path.name,
                what=f"holds a NUL byte at position {data.index(0)}, so it is no text in UTF-8",
                fix="Save it as CSV in UTF-8.",
            ),
        )
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return "", (
            Problem(
                where=f"{path.name} line {line}",
                what="is not UTF-8",
                fix="Save it as CSV in UTF-8.",
            ),
        )


def split_cells(name: str, text: str) -> tuple[list[tuple[int, list[str]]], tuple[Problem, ...]]:
    """(line number, cells) of each line that is not blank, or why there are none."""
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append((reader.line_num, cells))  # noqa: PERF401  # the lines before a fault
    except csv.Error as error:
        return [], (
            Problem(
                where=f"{name} line {reader.line_num}",
                what=f"is no CSV: {error}",
                fix="Close every quotation mark and save the table again.",
            ),
        )
    if not lines:
        return [], (
            Problem(
                where=name,
                what="is empty",
                fix="Begin with the line case,subject,site and add the cases.",
            ),
        )
    return lines, ()
