"""Print the tables of a results page from the `result.json` of several runs.

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
    """Print one row a model and run, then Dice by site, then paired differences."""
    named = [argument.partition("=") for argument in arguments]
    results = {
        name: json.loads((Path(folder) / "result.json").read_text()) for name, _, folder in named
    }
    _overall(results)
    _by_site(results)
    _differences(results)


def _overall(results: dict[str, Any]) -> None:
    head = " | ".join(label for _, label, _ in METRICS)
    print(f"| run | model | {head} | n | steps | minutes |")
    print("|---|---|" + "---|" * (len(METRICS) + 3))
    for name, result in results.items():
        for model, judged in result["evaluation"].items():
            figures = " | ".join(
                figure(judged["overall"][key], digits) for key, _, digits in METRICS
            )
            of = result["models"][model]
            n = judged["overall"]["dice"]["n"]
            print(
                f"| {name} | {model} | {figures} | {n} | {of['steps']} | {of['seconds'] / 60:.1f} |"
            )


def _by_site(results: dict[str, Any]) -> None:
    sites = sorted(
        {
            site
            for result in results.values()
            for judged in result["evaluation"].values()
            for site in judged["by_site"]
        }
    )
    heads = " | ".join(_with_numbers(site, results) for site in sites)
    print(f"\n| Dice | model | {heads} |")
    print("|---|---|" + "---|" * len(sites))
    for name, result in results.items():
        for model, judged in result["evaluation"].items():
            held = judged["by_site"]
            row = (figure(held[s]["dice"], 3) if s in held else "–" for s in sites)
            print(f"| {name} | {model} | {' | '.join(row)} |")


def _with_numbers(site: str, results: dict[str, Any]) -> str:
    """A site with its test cases and subjects, each number that occurs among the runs."""
    held = [result["sites"][site] for result in results.values() if site in result["sites"]]
    cases, subjects = (
        " or ".join(map(str, sorted({one[key] for one in held})))
        for key in ("test_cases", "test_subjects")
    )
    return f"{site} (n={cases}, {subjects} {'subject' if subjects == '1' else 'subjects'})"


def _differences(results: dict[str, Any]) -> None:
    head = " | ".join(label for _, label, _ in METRICS)
    print(f"\n| federated minus | {head} |")
    print("|---|" + "---|" * len(METRICS))
    for name, result in results.items():
        for model, differences in result["comparisons"].items():
            paired = {difference["metric"]: difference for difference in differences}
            row = (
                figure(paired[key], digits, sign="+") if key in paired else "–"
                for key, _, digits in METRICS
            )
            print(f"| {name}: {model} | {' | '.join(row)} |")


def figure(stat: dict[str, Any], digits: int, *, sign: str = "") -> str:
    """A value with its interval; a dash where it has no value, the value alone without interval."""
    value, low, high = (stat[key] for key in ("value", "low", "high"))
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:{sign}.{digits}f}"
    return f"{value:{sign}.{digits}f} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


if __name__ == "__main__":
    main(sys.argv[1:])
