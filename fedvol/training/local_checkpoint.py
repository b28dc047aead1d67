"""Where a site stands inside a round, on its own disk, so that a crash repeats minutes only."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedvol.store import StateFile, write_state
from fedvol.types import Digest, State

_NETWORK = "network:"
_OPTIMISER = "optimiser:"
_CORRECTION = "correction:"
_STEPS, _LOSS_SUM, _SECONDS = "steps", "loss_sum", "seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Everything a round needs to go on as if it had never stopped.

    Attributes:
        steps: Steps done in the round.
        loss_sum: Sum of their losses.
        seconds: Seconds they took.
        network: Every tensor of the network.
        optimiser: The optimiser's state.
        correction: What a correction of the gradients has gathered.
    """

    steps: int
    loss_sum: float
    seconds: float
    network: State
    optimiser: State
    correction: State = field(default_factory=dict[str, NDArray[np.generic]])


class LocalCheckpoint:
    """One file, replaced whole at each save, bound to plan, stage and round.

    The file outlives the round: call `clear` once the round's result is safe.

    Args:
        path: The file; it need not exist.
        plan: Digest of the run's plan.
        stage: Index of the stage in the plan.
        round: The round.
    """

    def __init__(self, path: Path, *, plan: Digest, stage: int, round: int) -> None:  # noqa: A002
        self._path = path
        self._metadata = {"plan": str(plan), "stage": str(stage), "round": str(round)}

    def load(self) -> Progress | None:
        """What was saved last; None if nothing was.

        Raises:
            CheckpointError: The file belongs to another plan, stage or round.
            BlobDamagedError: The file is damaged.
        """
        if not self._path.exists():
            return None
        with StateFile(self._path) as file:
            file.require_metadata(self._metadata)
            tensors = file.read_all()
        return Progress(
            steps=int(tensors[_STEPS][0]),
            loss_sum=float(tensors[_LOSS_SUM][0]),
            seconds=float(tensors[_SECONDS][0]),
            network=_below(tensors, _NETWORK),
            optimiser=_below(tensors, _OPTIMISER),
            correction=_below(tensors, _CORRECTION),
        )

    def save(self, progress: Progress) -> None:
        """Replace the file.

        Raises:
            DiskFullError: No space is left; the file is what it was before.
        """
        tensors: dict[str, np.ndarray] = {
            _STEPS: np.array([progress.steps], dtype=np.int64),
            _LOSS_SUM: np.array([progress.loss_sum], dtype=np.float64),
            _SECONDS: np.array([progress.seconds], dtype=np.float64),
            **{_NETWORK + name: array for name, array in progress.network.items()},
            **{_OPTIMISER + name: array for name, array in progress.optimiser.items()},
            **{_CORRECTION + name: array for name, array in progress.correction.items()},
        }
        write_state(self._path, tensors.items(), metadata=self._metadata)

    def clear(self) -> None:
        """Remove the file, if there is one."""
        self._path.unlink(missing_ok=True)


def _below(tensors: State, prefix: str) -> State:
    return {
        name.removeprefix(prefix): array
        for name, array in tensors.items()
        if name.startswith(prefix)
    }
