"""Who took part when: one square per round and site, coloured and lettered."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from fedvol.federation import TOOK_PART
from fedvol.report.figures import count
from fedvol.report.result import StageResult
from fedvol.report.svg import figure_svg, tag
from fedvol.report.wording import STATES

_CELL, _GAP, _TOP = 19, 3, 20
_PER_BAND = 25
_NAME_CHARACTERS = 15


def participation_grid(stage: StageResult, *, sites: Sequence[str]) -> Markup:
    """Rounds from left to right, wrapped after 25; sites from top to bottom in each band."""
    rounds = stage.rounds
    bands = [rounds[start : start + _PER_BAND] for start in range(0, len(rounds), _PER_BAND)]
    step = _CELL + _GAP
    band_height = _TOP + len(sites) * step + 10
    left = 16 + 7 * max((len(_short(site)) for site in sites), default=0)
    columns = max((len(band) for band in bands), default=0)
    body: list[Markup] = []
    for number, band in enumerate(bands):
        top = number * band_height
        for column, item in enumerate(band):
            x = left + column * step
            if item.index == 1 or item.index % 5 == 0 or column == 0:
                body.append(
                    tag("text", str(item.index), x=x + _CELL / 2, y=top + 13, class_="tick middle")
                )
            for row, site in enumerate(sites):
                state = item.sites[site].state if site in item.sites else "not_asked"
                body.append(
                    _cell(x, top + _TOP + row * step, state, hover=f"round {item.index}, {site}")
                )
        for row, site in enumerate(sites):
            y = top + _TOP + row * step + _CELL / 2 + 4
            body.append(tag("text", escape(_short(site)), x=left - 8, y=y, class_="tick end"))
    return figure_svg(
        body,
        width=left + columns * step,
        height=max(1, len(bands)) * band_height,
        title=f"Participation in stage {stage.name}, rounds by sites",
        desc=_words(stage, sites),
        class_="grid",
    )


def states_seen(stage: StageResult, *, sites: Sequence[str]) -> tuple[str, ...]:
    """States that occur in a stage, in the legend's order."""
    seen = {
        item.sites[site].state if site in item.sites else "not_asked"
        for item in stage.rounds
        for site in sites
    }
    return (*(state for state in STATES if state in seen), *sorted(seen.difference(STATES)))


def legend_mark(state: str) -> Markup:
    """One square of the grid on its own, for the legend."""
    return tag(
        "svg",
        _cell(0, 0, state, hover=""),
        class_="mark",
        width=_CELL,
        height=_CELL,
        aria_hidden="true",
    )


def _cell(x: float, y: float, state: str, *, hover: str) -> Markup:
    letter, meaning = STATES.get(state, ("?", state))
    style = state if state in STATES else "unknown"
    body = tag("rect", x=x, y=y, width=_CELL, height=_CELL, rx=3, class_=f"cell {style}")
    body += tag("text", letter, x=x + _CELL / 2, y=y + _CELL / 2 + 4, class_=f"letter {style}")
    return tag("g", tag("title", f"{hover}: {meaning}") + body) if hover else body


def _words(stage: StageResult, sites: Sequence[str]) -> str:
    parts: list[str] = []
    for site in sites:
        num = sum(
            1 for item in stage.rounds if site in item.sites and item.sites[site].state in TOOK_PART
        )
        verb = "trained its model" if stage.is_personal else "contributed"
        parts.append(f"{site} {verb} in {num} of {count(len(stage.rounds), 'round')}")
    return "; ".join(parts) + "."


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"
