"""Figures of finished runs in one file, so that a study may be spread over days and machines.

What is kept of a run is the part of its `result.json` that the tables read, the versions that made
it, and the digest of its study: figures of another design are not taken.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedvol.files import digest_file, write_atomic
from studies.strategies.running import Run


def keep(runs: Sequence[Run], *, path: Path) -> None:
    """Write the figures of every finished run, a line each; those of other runs there stay.

    Args:
        runs: Of which the finished ones are kept.
        path: The file.
    """
    held = _read(path)
    for run in runs:
        if run.is_finished:
            held[run.name] = _kept(run)
    lines = [f"{json.dumps(name)}: {json.dumps(held[name])}" for name in sorted(held)]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_atomic(path, text.encode())


def restore(runs: Sequence[Run], *, path: Path) -> int:
    """Put kept figures in place of runs that were not made here; call after `prepare`.

    Args:
        runs: Their studies are written.
        path: The file; nothing is done where it is absent.

    Returns:
        How many were put in place.
    """
    held = _read(path)
    num_restored = 0
    for run in runs:
        kept = held.get(run.name)
        if kept is None or run.out.exists() or kept["study"] != digest_file(run.study):
            continue
        write_atomic(run.out / "result.json", json.dumps(kept["result"]).encode())
        num_restored += 1
    return num_restored


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _kept(run: Run) -> dict[str, Any]:
    result = json.loads((run.out / "result.json").read_text())
    stage = result["stages"][0]
    best = [one for one in stage["rounds"] if one["index"] == stage["best_round"]]
    return {
        "study": digest_file(run.study),
        "result": {
            "status": result["status"],
            "versions": result["versions"],
            "stages": [
                {
                    "best_round": stage["best_round"],
                    "rounds": [
                        {
                            "index": one["index"],
                            "validation": {"dice": {"value": one["validation"]["dice"]["value"]}},
                        }
                        for one in best
                    ],
                }
            ],
            "evaluation": {
                model: {
                    part: {
                        name: {"dice": {"value": figures["dice"]["value"]}}
                        for name, figures in judged[part].items()
                    }
                    for part in ("by_site", "by_class")
                }
                for model, judged in result["evaluation"].items()
            },
            "models": {
                model: {"steps": of["steps"], "seconds": round(of["seconds"], 1)}
                for model, of in result["models"].items()
            },
        },
    }
