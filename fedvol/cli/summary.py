"""A result in a few lines: a table for people, an object for scripts."""

from pathlib import Path

from fedvol.report.result import Result, StatResult
from fedvol.types import Json


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


def _figure(stat: StatResult | None) -> str:
    if stat is None:
        return "-"
    if stat.value is None:
        return stat.withheld or "-"
    if stat.low is None or stat.high is None:
        return f"{stat.value:.3f} (no interval, n={stat.n})"
    return f"{stat.value:.3f} [{stat.low:.3f}, {stat.high:.3f}] n={stat.n}"
