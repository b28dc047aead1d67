"""Print the table of a results page from the `result.json` of several runs.

python docs/results/table.py NAME=OUT [NAME=OUT ...]
"""

import json
import sys
from pathlib import Path

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


def figure(stat: dict[str, float], digits: int) -> str:
    """A value with its interval."""
    value, low, high = (f"{stat[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main(sys.argv[1:])
