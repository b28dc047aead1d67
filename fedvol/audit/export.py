"""A log for other programs: every field of the chosen lines, and the head that was verified."""

import csv
import io
import json
from pathlib import Path
from typing import Final

from fedvol.audit.chain import LogLine
from fedvol.audit.contribution import AuditRecord
from fedvol.audit.selection import Selection
from fedvol.audit.totals import Totals
from fedvol.audit.verify import LogSummary, verify_log
from fedvol.errors import UsageError
from fedvol.files import write_atomic
from fedvol.types import Json

_ACTIVE: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How a cell begins that a spreadsheet may run; the wide ones do it in East Asian locales."""

_COLUMNS: Final = ("sequence", "time", *AuditRecord.__dataclass_fields__)
_FORMATS: Final = (".csv", ".json")


def export_log(path: Path, out: Path, *, selection: Selection) -> tuple[LogSummary, Totals, int]:
    """Verify a log and write the chosen lines to a new file, CSV or JSON by its name; mode 0600.

    A CSV ends with a row of kind `verified` that states number of lines and head of the whole
    log; a JSON has them under `log`.

    Args:
        path: The log.
        out: The file.
        selection: Which lines.

    Returns:
        The whole log's summary, what left by the chosen lines, and their number.

    Raises:
        AuditError: The log does not verify; nothing is written.
        UsageError: `out` is there already, or is named neither .csv nor .json.
        StoreError: It cannot be written.
    """
    if out.suffix.lower() not in _FORMATS:
        raise UsageError("--out", f"{out.name} is named neither .csv nor .json", "Choose one.")
    if out.exists():
        raise UsageError("--out", f"{out} is there already", "Choose another name.")
    lines, totals = list[LogLine](), Totals()

    def take(line: LogLine) -> None:
        if selection.wants(line):
            lines.append(line)
            totals.add(line)

    summary = verify_log(path, take=take)
    if out.suffix.lower() == ".csv":
        text = _as_csv(lines, summary=summary)
    else:
        text = _as_json(lines, summary=summary, name=path.name, selection=selection, totals=totals)
    write_atomic(out, text.encode(), mode=0o600)
    return summary, totals, len(lines)


def _as_csv(lines: list[LogLine], *, summary: LogSummary) -> str:
    found = dict.fromkeys(name for line in lines for name in line.event)
    columns = [*dict.fromkeys((*_COLUMNS, *found, "records", "head")), "hash"]
    last: dict[str, Json] = {
        "kind": "verified",
        "records": summary.records,
        "head": summary.head,
    }
    rows = [*({**line.event, "hash": line.end.head} for line in lines), last]
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([_cell(column) for column in columns])
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return text.getvalue()


def _cell(value: Json) -> str:
    match value:
        case None:
            text = ""
        case list() | dict() | bool():
            text = json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
    # An apostrophe before it makes a spreadsheet show the cell and not run it.
    return f"'{text}" if text.startswith(_ACTIVE) else text


def _as_json(
    lines: list[LogLine], *, summary: LogSummary, name: str, selection: Selection, totals: Totals
) -> str:
    events: list[Json] = [{**line.event, "hash": line.end.head} for line in lines]
    document: dict[str, Json] = {
        "schema": "fedvol.audit/1",
        "log": {"file": name, **summary.as_json()},
        "selection": selection.as_json(),
        "left": totals.as_json(),
        "events": events,
    }
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
