"""A run over the network on a screen: one line a site, live where it is a terminal."""

import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedvol.cli.progress import in_words

POLL_S = 1.0
_OVER = ("finished", "failed", "stopped")
_TOLD_TIMES = 10
"""How often in a round a site's steps are worth a line of their own, where nothing is redrawn."""
_CONSENT = {
    "approve": "agreed",
    "refuse": "refused",
    "withdraw": "withdrew its consent",
    "waiting": "has not answered yet",
}


def show_run(run: dict[str, Any], *, stream: TextIO) -> None:
    """Print a run as it stands."""
    Console(file=stream, soft_wrap=not stream.isatty()).print(render_run(run))


def watch_run(
    look: Callable[[], dict[str, Any]],
    *,
    stream: TextIO,
    wait: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Show a run until it ends.

    Args:
        look: Gives the run as it stands now.
        stream: Where; live if it is a terminal, else a line for each change.
        wait: Waits so many seconds.

    Returns:
        The run as it ended.
    """
    run = look()
    if not stream.isatty():
        told: dict[str, object] = {}
        while True:
            for name, line, sort in _lines(run):
                if told.get(name) != sort:
                    told[name] = sort
                    stream.write(f"{line}\n")
                    stream.flush()
            if is_over(run):
                return run
            wait(POLL_S)
            run = look()
    with Live(render_run(run), console=Console(file=stream), transient=True) as live:
        while not is_over(run):
            wait(POLL_S)
            run = look()
            live.update(render_run(run))
    show_run(run, stream=stream)
    return run


def ended_well(run: dict[str, Any]) -> bool:
    """Whether a run that is over finished, and nothing of it is missing."""
    return run["state"] == "finished" and not run["reason"]


def is_over(run: dict[str, Any]) -> bool:
    """Whether nothing more will happen unless somebody asks for it."""
    return run["state"] in _OVER and run["wanted"] == "ended"


def run_line(run: dict[str, Any]) -> str:
    """A run in one line."""
    line = f"{run['run']}: {run['state']}"
    if run["state"] not in _OVER and run["wanted"] != run["state"]:
        line += f" ({run['wanted']})"
    if found := run["round"]:
        total = sum(run["rounds"])
        line += f", {run['closed']} of {total} rounds closed"
        if found["state"] not in ("closed", "abandoned"):
            line += f"; round {found['round']} {found['state']}"
    return line + (f": {run['reason']}" if run["reason"] else "")


def render_run(run: dict[str, Any]) -> RenderableType:
    """A run with its sites, as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("site", "consent", "connected", "this round", "steps", "why not"):
        table.add_column(heading, justify="right" if heading == "steps" else "left")
    for site in run["sites"]:
        why = _why_not(site)
        table.add_row(
            *(
                Text(word)
                for word in (
                    site["site"],
                    site["consent"],
                    _connected(site),
                    _in_round(site, run) or "-",
                    str(site["steps"]) if site["steps"] is not None else "-",
                    why,
                )
            )
        )
    figures = validation_line(run)
    return Group(Text(run_line(run)), *([Text(figures)] if figures else []), table)


def validation_line(run: dict[str, Any]) -> str:
    """What the last closed round's model is worth, in one line; empty before there is one.

    Such as `  round 3 of stage 1: dice 0.8123`.
    """
    found = run["validation"]
    if found is None or not found["metrics"]:
        return ""
    words = ", ".join(
        f"{name} withheld or undefined" if value is None else f"{name} {value:.4f}"
        for name, value in found["metrics"].items()
    )
    return f"  round {found['round']} of stage {found['stage'] + 1}: {words}"


def site_line(site: dict[str, Any], run: dict[str, Any]) -> str:
    """A site in one line, such as `north  training round 2, step 31 of 120, about 4 min left`."""
    words = _in_round(site, run)
    if not words or site["consent"] != "approve":
        words = _CONSENT[site["consent"]]
    why = _why_not(site)
    return f"  {site['site']}  {words}" + (f": {why}" if why else "")


def _lines(run: dict[str, Any]) -> Iterator[tuple[str, str, object]]:
    """A line for the run and one for each site, each with what it is worth telling anew for."""
    line = run_line(run)
    yield "", line, line
    if figures := validation_line(run):
        yield "validation", figures, figures
    for site in run["sites"]:
        line, training = site_line(site, run), site["training"]
        if training is None:
            yield site["site"], line, line
        else:
            tenth = training["step"] * _TOLD_TIMES // training["steps"]
            yield site["site"], line, (run["round"]["round"], tenth, training["is_stale"])


def _in_round(site: dict[str, Any], run: dict[str, Any]) -> str:
    """What a site does in the present round; empty where it has no part in one."""
    training = site["training"]
    if training is None:
        return site["state"].replace("_", " ")
    words = (
        f"training round {run['round']['round']}, step {training['step']} of {training['steps']}"
    )
    if training["is_stale"]:
        return f"{words}, no word for {in_words(training['told_seconds_ago'])}"
    if training["seconds_left"] is None:
        return words
    return f"{words}, about {in_words(training['seconds_left'])} left"


def _why_not(site: dict[str, Any]) -> str:
    return " ".join(filter(None, (site["code"], site["title"]))) or site["why_not"]


def _connected(site: dict[str, Any]) -> str:
    if not site["takes_part"]:
        return "not active"
    return "yes" if site["online"] else "no"
