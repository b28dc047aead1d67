"""Names of the models that are trained and judged beside the federated one."""

from collections.abc import Sequence

from fedvol.errors import UsageError

BASELINES = ("local", "ensemble", "pooled")
"""Each site alone, the mean of those models' probabilities, and all cases in one place."""


def choose_baselines(names: Sequence[str]) -> tuple[str, ...]:
    """The baselines of these names, in their usual order.

    Raises:
        UsageError: A name is unknown or given twice.
    """
    for name in names:
        if name not in BASELINES:
            known = ", ".join(BASELINES)
            raise UsageError("--baselines", f"{name} is no baseline", f"Choose among: {known}.")
        if names.count(name) > 1:
            raise UsageError("--baselines", f"{name} is given twice", "Name it once.")
    return tuple(name for name in BASELINES if name in names)
