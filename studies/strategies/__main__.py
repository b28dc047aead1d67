"""`python -m studies.strategies`: write the studies, run them, show the tables."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from studies.strategies.budget import FULL, QUICK, Budget
from studies.strategies.contenders import CONTENDERS, Contender
from studies.strategies.kept import keep, restore
from studies.strategies.page import fill
from studies.strategies.pilot import pilot_runs, settle
from studies.strategies.running import Run, all_runs, prepare, run_unfinished
from studies.strategies.settings import SETTINGS, Setting
from studies.strategies.tables import design, figures, pilot_table

SEEDS = (0, 1, 2)


def main(words: Sequence[str] | None = None) -> int:
    """Run what is not finished, then print the tables; 1 where a run failed."""
    given = _parser().parse_args(words)
    settings = [one for one in SETTINGS if one.name in (given.setting or _names(SETTINGS))]
    contenders = [one for one in CONTENDERS if one.name in (given.only or _names(CONTENDERS))]
    seeds = tuple(given.seed or SEEDS)
    pilot = pilot_runs(given.out, contenders=contenders)
    runs = all_runs(given.out, settings=settings, contenders=contenders, seeds=seeds)
    budget = QUICK if given.quick else FULL
    failed: list[Run] = []
    if given.quick and given.keep is not None:
        _parser().error("--keep: figures of a few steps are none to keep; leave --quick out")
    if given.tables:
        _require_design(given.out, runs, pilot=pilot, budget=budget)
    else:
        if given.hippocampus is None and any(run.setting.shift is None for run in runs):
            _parser().error("--hippocampus: name the folder of volumes, or other settings")
        failed = _run(pilot, given, budget=budget)
        if not failed:
            settled = [settle(contender, pilot=pilot) for contender in contenders]
            runs = all_runs(given.out, settings=settings, contenders=settled, seeds=seeds)
            failed = _run(runs, given, budget=budget)
    tables = figures(runs, settings=settings)
    print(tables)
    if given.page is not None:
        fill(
            given.page,
            design=design(budget=budget, seeds=seeds),
            pilot=pilot_table(pilot),
            figures=tables,
        )
    return 1 if failed else 0


def _require_design(
    out: Path, runs: Sequence[Run], *, pilot: Sequence[Run], budget: Budget
) -> None:
    """End where figures are there that this design did not make."""
    others = [run.name for run in (*pilot, *runs) if not run.is_of_design(budget=budget)]
    if others:
        _parser().error(
            f"--tables: another design made {', '.join(others)} in {out}; give its options, or a "
            "folder of its own to each design"
        )


def _run(runs: Sequence[Run], given: argparse.Namespace, *, budget: Budget) -> list[Run]:
    if not runs:
        return []
    prepare(runs, budget=budget)
    if given.keep is None:
        return run_unfinished(runs, hippocampus=given.hippocampus, jobs=given.jobs, tell=_tell)
    _tell(f"{restore(runs, path=given.keep)} runs taken from {given.keep}")
    try:
        return run_unfinished(runs, hippocampus=given.hippocampus, jobs=given.jobs, tell=_tell)
    finally:
        keep(runs, path=given.keep)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m studies.strategies", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    parser.add_argument("--hippocampus", type=Path, help="folder of the hippocampus volumes")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--setting", action="append", choices=_names(SETTINGS))
    parser.add_argument("--only", action="append", choices=_names(CONTENDERS), help="some rows")
    parser.add_argument("--seed", action="append", type=int, help="may be repeated")
    parser.add_argument("--tables", action="store_true", help="run nothing, print what there is")
    parser.add_argument("--page", type=Path, help="put the tables into this page too")
    parser.add_argument("--keep", type=Path, help="file of figures: read first, written at the end")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few steps, to see that every run ends; without --keep",
    )
    return parser


def _names(things: Sequence[Setting] | Sequence[Contender]) -> list[str]:
    return [thing.name for thing in things]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
