"""One of two values for the strategies that need tuning, chosen on a seed of its own.

By validation Dice, averaged over the pilot's settings: no test case has a say.
"""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from studies.strategies.contenders import CONTENDERS, Contender
from studies.strategies.running import Run, all_runs
from studies.strategies.scores import read_score
from studies.strategies.settings import SETTINGS

PILOT_SEED = 100
PILOT_SETTINGS = ("label", "scanner")
"""Where updates of sites differ most."""


def pilot_runs(root: Path, *, contenders: Sequence[Contender]) -> tuple[Run, ...]:
    """What has to run before these contenders have their settings."""
    needed = {contender.as_of or contender.name for contender in contenders if contender.candidates}
    return all_runs(
        root,
        settings=[setting for setting in SETTINGS if setting.name in PILOT_SETTINGS],
        contenders=[
            replace(
                contender,
                name=_name(contender, number),
                label=f"{contender.label}, {words}",
                strategy=lines,
                candidates=(),
            )
            for contender in CONTENDERS
            if contender.name in needed
            for number, (words, lines) in enumerate(contender.candidates)
        ],
        seeds=(PILOT_SEED,),
    )


def settle(contender: Contender, *, pilot: Sequence[Run]) -> Contender:
    """The contender with the settings the pilot chose; the first of equals.

    Args:
        contender: With or without candidates.
        pilot: The finished runs of `pilot_runs`.

    Raises:
        ValueError: The pilot is not finished.
    """
    if not contender.candidates:
        return contender
    (source,) = (one for one in CONTENDERS if one.name == (contender.as_of or contender.name))
    values = [validation(_name(source, n), pilot) for n in range(len(source.candidates))]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        raise ValueError(f"{contender.name}: the pilot is not finished")
    _, lines = contender.candidates[known.index(max(known))]
    return replace(contender, strategy=lines, candidates=())


def validation(name: str, pilot: Sequence[Run]) -> float | None:
    """Mean validation Dice of a candidate over the settings; None where one is not finished."""
    runs = [run for run in pilot if run.contender.name == name]
    if not runs or not all(run.is_finished for run in runs):
        return None
    return statistics.fmean(
        read_score(run.out, model=run.contender.model).validation for run in runs
    )


def _name(contender: Contender, number: int) -> str:
    return f"{contender.name}-candidate{number + 1}"
