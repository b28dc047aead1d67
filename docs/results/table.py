"""Print the table of a results page from the `result.json` of several runs.

python docs/results/table.py NAME=OUT [NAME=OUT ...]
"""

import json
import sys
from pathlib import Path
from typing import Any

METRICS = (
    ("dice", "Dice", 3),
    ("hd95_mm", "HD95, mm", 2),
    ("assd_mm", "ASSD, mm", 3),
    ("nsd", "NSD", 3),
)


def main(arguments: list[str]) -> None:
    """Print one row a model and run."""
    head = " | ".join(label for _, label, _ in METRICS)
    print(f"| run | model | {head} | n | steps | minutes |")
    print("|---|---|" + "---|" * (len(METRICS) + 3))
    for argument in arguments:
        name, _, folder = argument.partition("=")
        result = json.loads((Path(folder) / "result.json").read_text())
        for model, judged in result["evaluation"].items():
            figures = " | ".join(
                figure(judged["overall"][key], digits) for key, _, digits in METRICS
            )
            of = result["models"][model]
            n = judged["overall"]["dice"]["n"]
            print(
                f"| {name} | {model} | {figures} | {n} | {of['steps']} | {of['seconds'] / 60:.1f} |"
            )


def figure(stat: dict[str, Any], digits: int) -> str:
    """A value with its interval; a dash where it has no value, the value alone without interval."""
    value, low, high = (stat[key] for key in ("value", "low", "high"))
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main(sys.argv[1:])
