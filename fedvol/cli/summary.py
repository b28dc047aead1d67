"""A result or a plan in a few lines: a table for people, an object for scripts."""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

from fedvol.cli.run_view import codes_in_words
from fedvol.plan import Setting
from fedvol.report.result import Result, StatResult
from fedvol.types import Json

_LINE, _INDENT = 100, "    "


def summarise(result: Result, *, out: Path) -> dict[str, Json]:
    """The figures a script most often wants; everything is in `result.json`."""
    evaluation: dict[str, Json] = {
        model: {metric: stat.value for metric, stat in judged.overall.items()}
        for model, judged in result.evaluation.items()
    }
    stages: list[Json] = [
        {
            "name": stage.name,
            "strategy": stage.strategy,
            "rounds": len(stage.rounds),
            "best_round": stage.best_round,
        }
        for stage in result.stages
    ]
    return {
        "status": result.status,
        "out": str(out),
        "result": str(out / "result.json"),
        "report": str(out / "report.html"),
        "seconds": result.seconds,
        "stages": stages,
        "evaluation": evaluation,
    }


def as_table(result: Result) -> str:
    """Each model's mean over all test cases with its 95 % interval, as plain text."""
    metrics = list(dict.fromkeys(m for e in result.evaluation.values() for m in e.overall))
    rows = [["model", *metrics]]
    for model, judged in result.evaluation.items():
        rows.append([model, *(_figure(judged.overall.get(metric)) for metric in metrics)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def skipped_line(result: Result) -> str:
    """Cases left out and why, in one line; empty where none was."""
    if not result.skipped:
        return ""
    num = sum(sum(codes.values()) for codes in result.skipped.values())
    cases = "1 case" if num == 1 else f"{num} cases"
    sites = "; ".join(
        f"{site} {codes_in_words(codes)}" for site, codes in sorted(result.skipped.items())
    )
    return f"Left out: {cases} ({sites}). Each is named in the report."


def settings_text(settings: Sequence[Setting]) -> str:
    """Every value that may be planned: key, value, where it is from, and why below."""
    cells = [(one.key, json.dumps(one.value, ensure_ascii=False), one.origin) for one in settings]
    width = max(len(key) for key, _, _ in cells)
    lines: list[str] = []
    for (key, value, origin), one in zip(cells, settings, strict=True):
        lines.append(f"{key.ljust(width)}  {origin.ljust(7)}  {value}")
        lines += textwrap.wrap(one.reason, _LINE, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return "\n".join(lines)


def _figure(stat: StatResult | None) -> str:
    if stat is None:
        return "-"
    if stat.value is None:
        return stat.withheld or "-"
    if stat.low is None or stat.high is None:
        return f"{stat.value:.3f} (no interval, n={stat.n})"
    return f"{stat.value:.3f} [{stat.low:.3f}, {stat.high:.3f}] n={stat.n}"
