"""Showing a run while it goes: a live view on a terminal, a line a round anywhere else."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TextIO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedvol.cli.run_view import RunView, codes_in_words, names, number, text, whole
from fedvol.telemetry import Observer
from fedvol.types import Json

_LASTING = frozenset(
    {
        "subjects.unnamed",
        "prepare.case",
        "run.started",
        "run.finished",
        "pretraining.trivial",
        "round.abandoned",
        "site.refused",
        "site.silent",
        "site.too_small",
        "site.no_pair",
        "site.probe_left",
        "site.absent",
    }
)
"""Events whose line stays above the live picture."""


@contextmanager
def watching(stream: TextIO) -> Generator[Observer]:
    """An observer that shows a run on a stream, live where it is a terminal."""
    if not stream.isatty():
        yield PlainProgress(stream)
        return
    console = Console(file=stream)
    view = LiveProgress()
    with Live(
        get_renderable=view.render, console=console, refresh_per_second=4, transient=True
    ) as live:
        view.live = live
        yield view


class PlainProgress:
    """One line for each thing worth a line; for logs and files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._view = RunView()

    def event(self, name: str, /, **fields: Json) -> None:
        """Write the event's line, if it has one."""
        self._view.take(name, fields)
        if line := describe(name, fields, view=self._view):
            self._stream.write(f"{line}\n")
            self._stream.flush()


class LiveProgress:
    """Stage, round, a row for each site, best metric, time left for the model, redrawn in place."""

    def __init__(self) -> None:
        self.live: Live | None = None
        self._view = RunView()

    def event(self, name: str, /, **fields: Json) -> None:
        """Take the event into the next picture; keep what matters as a line above it."""
        self._view.take(name, fields)
        if self.live and name in _LASTING and (line := describe(name, fields, view=self._view)):
            self.live.console.print(escape(line), highlight=False)

    def render(self) -> RenderableType:
        """The present picture."""
        view = self._view
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for site, row in view.sites.items():
            loss = "" if row.loss is None else f"loss {row.loss:.4f}"
            count = f"{row.done} of {row.total}" if row.total else ""
            bar = ProgressBar(total=max(row.total, 1), completed=row.done, width=24)
            table.add_row(Text(site), Text(row.state), bar, count, loss)
        return Group(Text(_headline(view), style="bold"), table)


def describe(name: str, fields: Mapping[str, Json], *, view: RunView) -> str:
    """An event in one line; empty for events that come too often for one.

    Args:
        name: The event.
        fields: Its fields.
        view: The run, this event included.
    """
    site, where = text(fields, "site"), f"round {whole(fields, 'round')}"
    is_last = whole(fields, "done") == whole(fields, "total")
    match name:
        case "check.case" if is_last:
            return f"{site}: {_cases_done(name, fields, view=view, verb='checked')}"
        case "subjects.unnamed":
            return "no table names subjects: every case counts as a subject of its own"
        case "plan.made":
            return f"planned from the sites' fingerprints: {', '.join(names(fields, 'keys'))}"
        case "prepare.case" if is_last:
            return f"{site}: {_cases_done(name, fields, view=view, verb='prepared')}"
        case "run.started":
            again = ", resumed" if fields.get("resumed") else ""
            sites, stages = names(fields, "sites"), ", ".join(names(fields, "stages"))
            return f"{text(fields, 'name')}: {', '.join(sites)}; {stages}{again}"
        case "round.closed":
            return _headline(view, seconds=number(fields, "seconds"))
        case "pretraining.trivial":
            loss, trivial = number(fields, "loss") or 0.0, number(fields, "trivial_loss") or 0.0
            return (
                f"{view.title}: the pretraining learned nothing: its loss {loss:.4f} is not below "
                f"{trivial:.4f}, which needs no look at the input"
            )
        case "round.abandoned":
            return f"{view.title}: {where} abandoned: {text(fields, 'reason')}"
        case "site.refused":
            detail = text(fields, "detail") or f"{text(fields, 'code')} {text(fields, 'title')}"
            return f"{site}: {_no_part(fields)}: {detail}"
        case "site.silent":
            return f"{site}: no answer" + (f" in {where}" if fields.get("round") else "")
        case "site.too_small":
            few, total = whole(fields, "cases"), whole(fields, "total")
            patch, task = text(fields, "patch"), text(fields, "task")
            return f"{site}: {few} of {total} cases left out: {task} wants {patch} voxels or more"
        case "site.no_pair":
            return (
                f"{site}: a single case, and {text(fields, 'task')} blends two: it cannot pretrain"
            )
        case "site.probe_left":
            return f"{site}: no linear probe in {where}: {text(fields, 'title')}"
        case "site.absent":
            return f"{site}: takes no part: {text(fields, 'reason')}"
        case "model.evaluating" if is_last:
            return f"{text(fields, 'model')}: judged at {site}, {_cases(fields)}"
        case "sweep.started":
            runs, waiting = whole(fields, "runs"), whole(fields, "waiting")
            return f"{runs - waiting} of {runs} runs are finished"
        case "sweep.event" if fields.get("event") in ("round.closed", "round.abandoned"):
            inner = cast("dict[str, Json]", fields["fields"])
            return f"{text(fields, 'run')}: {_round_in_words(inner)}"
        case "sweep.run":
            reason = text(fields, "reason")
            how = f"failed: {reason}" if reason else in_words(number(fields, "seconds") or 0.0)
            of = f"{whole(fields, 'done')}/{whole(fields, 'total')}"
            return f"{of} {text(fields, 'run')}: {how}"
        case "run.finished":
            return f"{text(fields, 'name') or view.title}: {text(fields, 'status')}"
        case _:
            return ""


def in_words(seconds: float) -> str:
    """A duration as people say it, such as `12 s`, `3 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _left_in_words(view: RunView) -> str:
    """`about 3 min left for this model, 15 min with the 3 that follow`; empty if not known."""
    if view.following and view.seconds_left_in_all:
        which = (
            "the one that follows" if view.following == 1 else f"the {view.following} that follow"
        )
        left, in_all = in_words(view.seconds_left or 0.0), in_words(view.seconds_left_in_all)
        return f"about {left} left for this model, {in_all} with {which}"
    return f"about {in_words(view.seconds_left)} left for this model" if view.seconds_left else ""


def _round_in_words(fields: Mapping[str, Json]) -> str:
    """A round of a run that others go beside."""
    where = f"stage {whole(fields, 'stage') + 1} round {whole(fields, 'round')}"
    if reason := text(fields, "reason"):
        return f"{where} abandoned: {reason}"
    value = number(fields, "value")
    words = f"{where} of {whole(fields, 'rounds')}"
    return words if value is None else f"{words}, {text(fields, 'metric')} {value:.4f}"


def _no_part(fields: Mapping[str, Json]) -> str:
    """What a refusal means: before the first round, no part in anything."""
    number = whole(fields, "round")
    return f"took no part in round {number}" if number else "takes no part"


def _cases(fields: Mapping[str, Json]) -> str:
    total = whole(fields, "total")
    return "1 case" if total == 1 else f"{total} cases"


def _cases_done(name: str, fields: Mapping[str, Json], *, view: RunView, verb: str) -> str:
    """`12 cases prepared`, or how many of them and why not the others."""
    codes = view.skipped.get((name, text(fields, "site")), {})
    if not codes:
        return f"{_cases(fields)} {verb}"
    num = sum(codes.values())
    done = whole(fields, "total") - num
    return f"{_cases(fields)}: {done} {verb}, {num} skipped ({codes_in_words(codes)})"


def _headline(view: RunView, *, seconds: float | None = None) -> str:
    parts = [view.title]
    if view.rounds:
        parts.append(f"{view.stage} round {view.round} of {view.rounds}")
    if seconds is not None:
        parts.append(f"{seconds:.1f} s")
    if view.metric:
        parts += [
            f"{name} undefined" if value is None else f"{name} {value:.4f}"
            for name, value in ((view.metric, view.value), *view.further.items())
        ]
    if view.best_round is not None:
        parts.append(f"best round {view.best_round}")
    if left := _left_in_words(view):
        parts.append(left)
    return " | ".join(parts)
