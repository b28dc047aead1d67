"""`fedvol simulate --sweep`: variants of a study, compared."""

import sys
from pathlib import Path

from fedvol.cli.output import say
from fedvol.cli.progress import PlainProgress
from fedvol.errors import UsageError
from fedvol.types import Json


def require_sweep_options(*, baselines: str, engine: str) -> None:
    """Refuse options that mean nothing to a sweep.

    Raises:
        UsageError: One was given.
    """
    given = {"--baselines": bool(baselines.strip()), "--engine": engine != "in-process"}
    for option, is_given in given.items():
        if is_given:
            raise UsageError(
                option,
                "a sweep compares federated models, each run in a process of its own",
                "Leave it out; --workers says how many runs go side by side.",
            )


def run_sweep(
    study: Path, sweep: Path, *, data: Path, out: Path, resume: bool, jobs: int, device: str
) -> dict[str, Json]:
    """Run a sweep and say what it found.

    Returns:
        The figures a script most often wants; everything is in `sweep.json`.
    """
    from fedvol.config.sweep import load_sweep

    load_sweep(sweep)  # a broken one is told before the heavy libraries load
    from fedvol.report.sweep_page import sweep_table
    from fedvol.simulation import sweep as run
    from fedvol.telemetry import set_up_logging

    set_up_logging(sys.stderr)
    result = run(
        study,
        sweep,
        data=data,
        out=out,
        resume=resume,
        jobs=jobs,
        device=device,
        observer=PlainProgress(sys.stderr),
    )
    say(sweep_table(result))
    say(f"Report: {out / 'sweep.html'}")
    variants: list[Json] = [
        {"variant": dict(one.variant), "seeds": one.seeds, result.metric: one.stat.value}
        for one in result.variants
    ]
    return {
        "out": str(out),
        "result": str(out / "sweep.json"),
        "report": str(out / "sweep.html"),
        "variants": variants,
    }
