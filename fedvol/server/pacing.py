"""`Pacing`: what happens before a round is begun, and how long sites are waited for."""

from collections.abc import Iterator
from typing import Protocol


class Pacing(Protocol):
    """When a run goes on."""

    @property
    def sites_return(self) -> bool:
        """Whether a site that is away or refuses may be there later."""
        ...

    def between_rounds(self) -> None:
        """Called before each round and after the last.

        Raises:
            RunPausedError: The operator paused the run.
            RunStoppedError: The operator stopped it.
        """
        ...

    def attempts(self) -> Iterator[None]:
        """Yields at once, then after every wait for as long as sites are worth asking again.

        Raises:
            RunPausedError: The operator paused the run meanwhile.
            RunStoppedError: The operator stopped it.
        """
        ...


class Unpaced:
    """Round after round, as in one process: nobody interferes, and nobody comes back."""

    @property
    def sites_return(self) -> bool:
        """They do not."""
        return False

    def between_rounds(self) -> None:
        """Nothing happens."""

    def attempts(self) -> Iterator[None]:
        """One."""
        yield
