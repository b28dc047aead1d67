"""Names of the models of a run in its results, and of the baselines that are asked for."""

from collections.abc import Iterable
from typing import Final

from fedvol.errors import UsageError

FEDERATED: Final = "federated"
"""The run's own product."""
NEW_SITE: Final = "federated/new-site"
"""The released file of a run whose sites keep tensors of their own, as a newcomer would use it."""
PERSONALISED: Final = "personalised"
"""Each site's own model, judged on that site's test cases alone."""
LOCAL: Final = "local"
"""Each site alone; the model of one is `local/SITE`."""
ENSEMBLE: Final = "ensemble"
"""The mean of those models' probabilities."""
POOLED: Final = "pooled"
"""All cases in one place."""

BASELINES: Final = (LOCAL, ENSEMBLE, POOLED)
"""What may be trained and judged beside the federated model."""


def local_model(site: str) -> str:
    """Name of the model that one site trained alone."""
    return f"{LOCAL}/{site}"


def site_of(model: str) -> str | None:
    """The site that trained a model alone; None for every other model."""
    kind, slash, site = model.partition("/")
    return site if slash and kind == LOCAL else None


def require_baselines(names: Iterable[str]) -> tuple[str, ...]:
    """Baselines by name, in their usual order.

    Raises:
        UsageError: A name is unknown or given twice.
    """
    wanted = list(names)
    for name in wanted:
        if name not in BASELINES:
            known = ", ".join(BASELINES)
            raise UsageError("--baselines", f"{name} is no baseline", f"Choose among: {known}.")
        if wanted.count(name) > 1:
            raise UsageError("--baselines", f"{name} is given twice", "Name it once.")
    return tuple(name for name in BASELINES if name in wanted)
