"""What a sweep shows: one table and its learning curves, as a page and as Markdown."""

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from fedvol.files import write_atomic
from fedvol.report.figures import (
    NO_INTERVAL,
    MetricInfo,
    duration,
    figure,
    interval,
    metric_info,
    metric_label,
    number,
    quantity,
)
from fedvol.report.line_chart import Line, line_chart
from fedvol.report.rendering import html_templates, markdown_templates
from fedvol.report.result_file import read_document
from fedvol.report.sweep_result import (
    SweepDifference,
    SweepResult,
    SweepRunResult,
    SweepVariantResult,
)

SWEEP_FILE = "sweep.json"
"""Where the figures of a sweep are, in its folder."""

_MAX_NAMED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One variant, its cells in words."""

    values: tuple[str, ...]
    value: str
    interval: str
    seeds: str
    difference: str
    difference_detail: str
    reached: str
    finetune_steps: str
    pretrain_steps: str
    seconds: str
    is_baseline: bool


def write_sweep(folder: Path, *, result: SweepResult) -> None:
    """Write `sweep.html`, `sweep.md` and, last, `sweep.json`.

    Raises:
        DiskFullError: No space is left.
        StoreError: The folder cannot be written.
    """
    _write_pages(folder, result)
    document = result.model_dump(mode="json", by_alias=True)
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / SWEEP_FILE, f"{text}\n".encode())


def rebuild_sweep(folder: Path) -> Path:
    """Make the page of a sweep again, from its figures alone.

    Raises:
        ResultFileError: `sweep.json` cannot be read, or is of another version.
        StoreError: The folder cannot be written.
    """
    _write_pages(folder, read_document(folder / SWEEP_FILE, SweepResult))
    return folder / "sweep.html"


def sweep_table(result: SweepResult) -> str:
    """Each variant with its figure, as plain text."""
    shown = [_row(variant, result, info=metric_info(result.metric)) for variant in result.variants]
    rows = [[*result.axes, metric_label(result.metric), "seeds", "difference"]]
    rows += [
        [
            *row.values,
            f"{row.value} ({row.interval})",
            row.seeds,
            " ".join([row.difference, f"({row.difference_detail})"]) if row.difference else "",
        ]
        for row in shown
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _write_pages(folder: Path, result: SweepResult) -> None:
    write_atomic(folder / "sweep.html", render_sweep(result).encode())
    write_atomic(folder / "sweep.md", render_sweep_markdown(result).encode())


def render_sweep(result: SweepResult) -> str:
    """The page; everything is escaped."""
    page = html_templates().get_template("sweep.html.j2")
    return page.render(**_shown(result), charts=tuple(_charts(result)))


def render_sweep_markdown(result: SweepResult) -> str:
    """The table as Markdown, with what its columns mean."""
    return markdown_templates().get_template("sweep.md.j2").render(**_shown(result))


def _shown(result: SweepResult) -> dict[str, object]:
    info = metric_info(result.metric)
    baseline = ", ".join(f"{axis} {value}" for axis, value in result.baseline.items())
    return {
        "result": result,
        "info": info,
        "curve_label": metric_label(result.curve_metric),
        "baseline": baseline,
        "target": _target_words(result),
        "rows": [_row(variant, result, info=info) for variant in result.variants],
        "failed": [run for run in result.runs if run.status == "failed"],
        "missing": sum(run.status == "not run" for run in result.runs),
    }


def _row(variant: SweepVariantResult, result: SweepResult, *, info: MetricInfo) -> _Row:
    runs = [run for run in _finished(result) if run.variant == variant.variant]
    shown = figure(variant.stat, metric=info)
    return _Row(
        values=tuple(variant.variant.values()),
        value=shown.value,
        interval="; ".join([shown.interval, *shown.notes]),
        seeds=_spread(variant.lowest, variant.highest, seeds=variant.seeds, info=info),
        difference=_difference(variant.difference, info=info),
        difference_detail=_difference_detail(variant.difference, info=info),
        reached=_reached(variant, result),
        finetune_steps=_same(run.finetune_steps for run in runs),
        pretrain_steps=_same(run.pretrain_steps for run in runs),
        seconds=duration(statistics.median(run.finetune_seconds or 0.0 for run in runs)),
        is_baseline=variant.variant == {**variant.variant, **result.baseline}
        and bool(result.baseline),
    )


def _finished(result: SweepResult) -> list[SweepRunResult]:
    return [run for run in result.runs if run.status == "finished"]


def _spread(low: float | None, high: float | None, *, seeds: int, info: MetricInfo) -> str:
    if low is None or high is None:
        return "none"
    if seeds == 1:
        return "one seed"
    return f"{seeds} seeds: {interval(low, high, metric=info)}"


def _difference(found: SweepDifference | None, *, info: MetricInfo) -> str:
    return "" if found is None else quantity(found.value, metric=info, signed=True)


def _difference_detail(found: SweepDifference | None, *, info: MetricInfo) -> str:
    if found is None:
        return ""
    words = NO_INTERVAL
    if found.low is not None and found.high is not None:
        words = interval(found.low, found.high, metric=info, signed=True)
    if found.seeds > 1:
        words += f"; seeds {interval(found.lowest, found.highest, metric=info, signed=True)}"
    return words


def _reached(variant: SweepVariantResult, result: SweepResult) -> str:
    if result.target is None:
        return ""
    if variant.steps_to_target is None:
        return f"not reached ({variant.reached} of {variant.seeds} seeds)"
    words = f"{variant.steps_to_target:,.1f}".removesuffix(".0")
    missed = variant.seeds - variant.reached
    return f"{words} ({missed} of {variant.seeds} seeds never)" if missed else words


def _same(steps: Iterator[int]) -> str:
    return ", ".join(f"{number_:,}" for number_ in dict.fromkeys(steps))


def _target_words(result: SweepResult) -> str:
    if result.target is None:
        return ""
    info = metric_info(result.curve_metric)
    of = ", ".join(f"{axis} {value}" for axis, value in result.target.of.items())
    return (
        f"validation {metric_label(result.curve_metric)} "
        f"{quantity(result.target.value, metric=info)}, "
        f"{number(100 * result.target.share, decimals=0)} % of what {of} ends with"
    )


def _charts(result: SweepResult) -> Iterator[Markup]:
    """Learning curves: a chart for each value of the axes that are not the baseline's."""
    compared = [axis for axis in result.axes if axis in result.baseline] or [[*result.axes][-1]]
    others = [axis for axis in result.axes if axis not in compared]
    groups = dict.fromkeys(tuple(run.variant[axis] for axis in others) for run in _finished(result))
    for group in groups:
        fixed = dict(zip(others, group, strict=True))
        runs = [run for run in _finished(result) if {**run.variant, **fixed} == run.variant]
        yield _chart(result, runs, compared=compared, fixed=fixed)


def _chart(
    result: SweepResult,
    runs: Sequence[SweepRunResult],
    *,
    compared: Sequence[str],
    fixed: Mapping[str, str],
) -> Markup:
    info = metric_info(result.curve_metric)
    places = sorted({point.steps for run in runs for point in run.curve})
    names = list(dict.fromkeys(" ".join(run.variant[axis] for axis in compared) for run in runs))
    lines = [
        Line(
            name=name,
            values=tuple(_mean_at(place, of) for place in places),
            style=_style(name, index, result),
        )
        for index, name in enumerate(names)
        for of in [
            [run for run in runs if " ".join(run.variant[axis] for axis in compared) == name]
        ]
    ]
    where = ", ".join(f"{axis} {value}" for axis, value in fixed.items())
    return line_chart(
        lines,
        places=places,
        title=f"{metric_label(result.curve_metric)} ({info.scale}){': ' if where else ''}{where}",
        desc="; ".join(
            f"{line.name} ends with {quantity(line.values[-1], metric=info)}"
            for line in lines
            if line.values[-1] is not None
        ),
        bounds=(0.0, 1.0) if info.scale == "0 to 1" else (0.0, math.inf),
        axis="steps of each site",
    )


def _mean_at(place: int, runs: Sequence[SweepRunResult]) -> float | None:
    """Mean over the seeds after so many steps; None where one of them has no value."""
    values = [point.value for run in runs for point in run.curve if point.steps == place]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(runs) else None


def _style(name: str, index: int, result: SweepResult) -> str:
    if name == " ".join(result.baseline.values()):
        return "all"
    return f"s{index}" if index < _MAX_NAMED else "many"
