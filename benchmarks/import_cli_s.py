"""How long the command line takes to load, before it does anything."""

import statistics
import subprocess
import sys
from functools import partial

from benchmarks.measurement import REPOSITORY, Measurement, Size, in_turns

_REPEATS: dict[Size, int] = {"tiny": 1, "default": 9, "large": 21}


def measure(size: Size) -> Measurement:
    """Seconds of a Python process that imports the command line and ends."""
    ours, baseline = (partial(_python, code) for code in ("import fedvol.cli.main", "pass"))
    ours()
    baseline()
    paired = in_turns(ours, baseline=baseline, repeats=_REPEATS[size])
    detail = paired.detail()
    return Measurement(
        name="import_cli_s",
        value=statistics.median(paired.ours),
        unit="s",
        baseline="python -c pass",
        detail={
            "repeats": detail["repeats"],
            "baseline_s": detail["baseline_s"],
            "times_a_bare_start": 1 / paired.speedup,
        },
    )


def _python(code: str) -> None:
    command = [sys.executable, "-c", code]
    subprocess.run(command, cwd=REPOSITORY, check=True)
