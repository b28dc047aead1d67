"""What stays at the site between rounds: local tensors, optimiser moments, control variate."""

import re
from pathlib import Path

from fedvol.errors import CheckpointError
from fedvol.federation import Exchange
from fedvol.files import write_atomic
from fedvol.store import StateFile, write_state
from fedvol.types import Digest, RunId, State

_NAME = re.compile(r"^(local|optimiser|control)-(\d{6})\.safetensors$")


class LocalState:
    """Files of one run and stage in a site's folder, one per round.

    A round reads what the last round before it wrote, so a round that is asked again after a
    crash starts from the same place. Local tensors of every round are kept, because the best
    round is known only at the end; optimiser moments of the newest and the one before it, however
    many rounds lie between them. A control variate counts
    only if the server took the round's contribution, so that of the last such round is kept
    beside the newest.
    """

    def __init__(self, folder: Path, *, run: RunId, stage: int, plan: Digest) -> None:
        self._folder = folder / run / f"stage-{stage}"
        self._plan = plan

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self._folder

    def local_tensors(self, *, up_to: int, exchange: Exchange) -> State | None:
        """Local tensors as of the end of a round or the last one before it; None if there are none.

        Raises:
            CheckpointError: The file belongs to another plan or architecture.
            BlobDamagedError: The file is damaged.
        """
        found = self._last("local", up_to=up_to)
        if found is None or not exchange.local:
            return None
        with StateFile(found) as file:
            file.require_metadata({"plan": self._plan})
            return {spec.name: file.read(spec.name) for spec in exchange.local}

    def optimiser(self, *, up_to: int, since: int = 1) -> State | None:
        """Optimiser moments as of the end of a round or the last one before it, not before `since`.

        Raises:
            CheckpointError: The file belongs to another plan.
            BlobDamagedError: The file is damaged.
        """
        rounds = [index for index in self._rounds("optimiser") if since <= index <= up_to]
        if not rounds:
            return None
        found = self._path("optimiser", rounds[-1])
        with StateFile(found) as file:
            file.require_metadata({"plan": self._plan})
            return file.read_all()

    def control(self, *, round: int) -> State | None:  # noqa: A002
        """The site's control variate as of the end of exactly this round; None for round 0.

        Raises:
            CheckpointError: The site has none of this round, or it belongs to another plan.
            BlobDamagedError: The file is damaged.
        """
        if round == 0:
            return None
        path = self._path("control", round)
        if not path.exists():
            raise CheckpointError(
                str(path),
                "the server counts on this control variate, and it is not there",
                "Restore the site's folder, or start the run anew.",
            )
        with StateFile(path) as file:
            file.require_metadata({"plan": self._plan})
            return file.read_all()

    def save_control(self, control: State, *, round: int, last_taken: int) -> None:  # noqa: A002
        """Write the control variate at the end of a round; call it before `save`.

        Args:
            control: The variate.
            round: The round.
            last_taken: The round before it whose contribution the server took; 0 for none.

        Raises:
            DiskFullError: No space is left.
        """
        metadata = {"plan": self._plan, "round": str(round)}
        write_state(self._path("control", round), control.items(), metadata=metadata)
        for old in self._rounds("control"):
            if old not in (round, last_taken):
                self._path("control", old).unlink(missing_ok=True)

    def save(self, *, round: int, local: State, optimiser: State | None) -> None:  # noqa: A002
        """Write the state at the end of a round; a second call for the round replaces it.

        Raises:
            DiskFullError: No space is left.
        """
        metadata = {"plan": self._plan, "round": str(round)}
        if optimiser is not None:
            write_state(self._path("optimiser", round), optimiser.items(), metadata=metadata)
            before = [old for old in self._rounds("optimiser") if old < round]
            for old in before[:-1]:  # the last of them is needed if the round is asked again
                self._path("optimiser", old).unlink(missing_ok=True)
        if local:
            write_state(self._path("local", round), local.items(), metadata=metadata)
        for done in self._folder.glob("round-*.progress"):
            done.unlink()

    def release_norms(self, *, round: int) -> bool:  # noqa: A002
        """Whether local tensors may be given away for a round: for a single one, ever.

        The first round it agrees to is written down; the same round may be asked for again. The
        stage has ended for the site then (`has_released_norms`).

        Args:
            round: The round whose tensors are asked for.
        """
        if not self.has_released_norms:
            write_atomic(self._released, f"{round}\n".encode())
        return self._released.read_text().strip() == str(round)

    @property
    def has_released_norms(self) -> bool:
        """Whether local tensors were given away, so that the site trains no more in this stage."""
        return self._released.exists()

    @property
    def _released(self) -> Path:
        return self._folder / "norms-released"

    def _path(self, kind: str, round_index: int) -> Path:
        return self._folder / f"{kind}-{round_index:06d}.safetensors"

    def _rounds(self, kind: str) -> list[int]:
        if not self._folder.is_dir():
            return []
        matches = (_NAME.match(path.name) for path in self._folder.iterdir())
        return sorted(int(found[2]) for found in matches if found and found[1] == kind)

    def _last(self, kind: str, *, up_to: int) -> Path | None:
        rounds = [index for index in self._rounds(kind) if index <= up_to]
        return self._path(kind, rounds[-1]) if rounds else None
