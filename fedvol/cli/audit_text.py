"""An audit log in words: the table that a privacy officer reads, and what left in all."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from fedvol.audit import Comparison, Crossing, LogLine, LogSummary, Totals
from fedvol.audit.compare import Told
from fedvol.audit.totals import Sent
from fedvol.cli.run_view import text, whole
from fedvol.telemetry import printable
from fedvol.types import Json

_HEADINGS: Final = (
    "record",
    "when (UTC)",
    "what",
    "run",
    "round",
    "whom",
    "consent",
    "bytes",
    "tensors, form, details",
    "digest",
)
_SHOWN: Final = frozenset(
    {"sequence", "time", "kind", "action", "run", "round", "stage", "plan", "site", "recipient"}
    | {"recipient_key", "sender_key", "consent", "size_bytes", "num_tensors", "form", "digest"}
    | {"message", "request", "user", "head", "public", "signature", "receipt", "roster"}
    | {"proposal", "contribution", "tensors"}
)
_NUMBERS: Final = ("record", "round", "bytes")
_DIGEST_LETTERS, _CELL_LETTERS, _MAX_LISTED = 12, 80, 20


def as_table(lines: Iterable[LogLine]) -> str:
    """One row for each line; digests are shortened, the export has them whole."""
    rows = [_HEADINGS, *(_row(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if heading in _NUMBERS else cell.ljust(width)
            for cell, width, heading in zip(row, widths, _HEADINGS, strict=True)
        ).rstrip()
        for row in rows
    )


def totals_text(totals: Totals) -> str:
    """What left the building, summed."""
    everything = totals.all
    if not everything.num or totals.first is None or totals.last is None:
        return "What left the building: nothing."
    first, last = totals.first.astimezone(UTC), totals.last.astimezone(UTC)
    span = f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    num = counted(everything.num, "contribution")
    said = [f"What left the building, {span}: {num}, {_size(everything)}."]
    said += [
        f"  {printable(kind)}: {sent.num}, {_size(sent)}"
        for kind, sent in sorted(totals.by_kind.items())
    ]
    said.append(f"To: {_listed(totals.recipients)}.")
    said.append(f"Under consent: {_listed(totals.consents) if totals.consents else 'none named'}.")
    if totals.num_without_consent and totals.consents:
        said.append(f"Without a consent: {totals.num_without_consent}.")
    return "\n".join(said)


def signed_text(log: LogSummary, *, are_keys_known: bool) -> str:
    """Up to where a log is signed, and by whom."""
    if log.checkpoint is None:
        return "Nothing in it is signed."
    whose = "the key given" if are_keys_known else f"key {log.checkpoint.public}"
    return (
        f"{counted(log.num_checkpoints, 'checkpoint')}; signed up to record "
        f"{log.checkpoint.records} ({log.checkpoint.time}) by {whose}; "
        f"{counted(log.num_unsigned, 'later record')} not signed yet."
    )


def comparison_text(found: Comparison) -> str:
    """Where two logs agree, and where they do not."""
    said = [
        *_crossing_text(
            found.contributions,
            sent="sent by the site and taken by the server",
            missing="sent by the site, not taken by the server",
            never="taken by the server, never sent by the site",
            foreign="refused by the server, in the site's name but not in its log",
        ),
        *_crossing_text(
            found.requests,
            sent="asked by the server and received by the site",
            missing="asked by the server, not received by the site",
            never="received by the site, never asked by the server",
            foreign="turned away by the site, in the server's name but not in its log",
        ),
    ]
    what = "sent by the site, and no line of its log says what was in it"
    said += _told_text(f"CONTRADICTION: {what}", found.undescribed)
    if found.receipted:
        what = "a receipt was given for what the server's log does not say it took"
        said += _told_text(f"CONTRADICTION: {what}", found.receipted)
    said += [
        f"The server was restored at {_minute(one.restored)} from the backup of "
        f"{_minute(one.taken)} ({printable(one.backup)}): its log lacks what it did between."
        for one in found.restores
    ]
    verdict = counted(found.num_contradictions, "contradiction")
    said.append(f"Site {printable(found.site)}: {verdict} between the two logs.")
    if found.num_after_backup:
        said.append(
            f"Of these {found.num_after_backup} fall between a backup and the restoration from it: "
            "only the log of the lost server can tell them from what somebody hides."
        )
    return "\n".join(said)


def counted(num: int, noun: str) -> str:
    """A number with its noun: 1 record, 3 records."""
    return f"{num:,} {noun}" if num == 1 else f"{num:,} {noun}s"


def _row(line: LogLine) -> tuple[str, ...]:
    event = line.event
    kind, action = text(event, "kind"), text(event, "action")
    cells = (
        text(event, "sequence"),
        f"{line.time.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        f"{kind} ({action})" if action else kind,
        text(event, "run"),
        text(event, "round"),
        _whom(event),
        text(event, "consent"),
        f"{whole(event, 'size_bytes'):,}" if "size_bytes" in event else "",
        _form(event),
        (text(event, "digest") or text(event, "message"))[:_DIGEST_LETTERS],
    )
    return tuple(_short(printable(cell)) for cell in cells)


def _whom(event: dict[str, Json]) -> str:
    """The other side, with the beginning of its key's fingerprint; or the user."""
    name = text(event, "recipient") or text(event, "user") or text(event, "site")
    if text(event, "kind") in ("received", "sent"):  # their site is the log's own
        name = "server"
    key = text(event, "recipient_key") or text(event, "sender_key")
    return f"{name} ({key[:_DIGEST_LETTERS]})" if key else name


def _form(event: dict[str, Json]) -> str:
    """Tensors and their form, then every field that has no column of its own and says something."""
    parts: list[str] = []
    if tensors := whole(event, "num_tensors"):
        parts.append(counted(tensors, "tensor"))
    if form := text(event, "form"):
        parts.append(form)
    parts += [
        f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in event.items()
        if name not in _SHOWN and value not in ("", 0, [], None)
    ]
    return ", ".join(parts)


def _crossing_text(
    crossing: Crossing, *, sent: str, missing: str, never: str, foreign: str
) -> list[str]:
    said = [f"{sent}: {crossing.num_both}"]
    for title, told in (
        (missing, crossing.not_taken),
        (f"CONTRADICTION: {never}", crossing.never_sent),
        ("CONTRADICTION: told differently by the two logs", crossing.different),
        (foreign, crossing.not_theirs),
    ):
        said += _told_text(title, told)
    return [line[0].upper() + line[1:] if line[0] != " " else line for line in said]


def _told_text(title: str, told: Sequence[Told]) -> list[str]:
    if not told:
        return []
    lines = [f"{title}: {len(told)}"]
    for one in told[:_MAX_LISTED]:
        what = f"run {one.said.get('run')}, round {one.said.get('round')}"
        if action := one.said.get("action"):
            what += f", {action}"
        if one.restore is not None:
            what += (
                f"  after the backup of {_minute(one.restore.taken)}, "
                f"restored {_minute(one.restore.restored)}"
            )
        lines.append(printable(f"  {one.message}  {what}  {one.code}".rstrip()))
    if len(told) > _MAX_LISTED:
        lines.append(f"  and {len(told) - _MAX_LISTED} more; --json has all")
    return lines


def _short(cell: str) -> str:
    return cell if len(cell) <= _CELL_LETTERS else f"{cell[: _CELL_LETTERS - 1]}…"


def _minute(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"


def _size(sent: Sent) -> str:
    return f"{sent.size_bytes:,} bytes, {counted(sent.num_tensors, 'tensor')}"


def _listed(names: set[str]) -> str:
    return ", ".join(printable(name) for name in sorted(names))
