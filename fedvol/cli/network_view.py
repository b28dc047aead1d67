"""A run over the network on a screen: one line a site, live where it is a terminal."""

import time
from collections.abc import Callable
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

POLL_S = 1.0
_OVER = ("finished", "failed", "stopped")


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
        before = ""
        while True:
            if (line := run_line(run)) != before:
                stream.write(f"{line}\n")
                stream.flush()
                before = line
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
        why = " ".join(filter(None, (site["code"], site["title"]))) or site["why_not"]
        table.add_row(
            *(
                Text(word)
                for word in (
                    site["site"],
                    site["consent"],
                    _connected(site),
                    site["state"].replace("_", " ") or "-",
                    str(site["steps"]) if site["steps"] is not None else "-",
                    why or "",
                )
            )
        )
    return Group(Text(run_line(run)), table)


def _connected(site: dict[str, Any]) -> str:
    if not site["takes_part"]:
        return "not active"
    return "yes" if site["online"] else "no"
