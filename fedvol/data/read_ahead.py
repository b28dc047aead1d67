"""Reading the next step's patches while a device computes."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar, final

_Read = TypeVar("_Read")


@final
class ReadAhead(Generic[_Read]):
    """Gives what a function reads for a step, and has a thread read the next step meanwhile.

    No bit depends on it: what is read is a function of the step alone.

    Args:
        read: Reads what a step needs.
        is_on: Whether there is such a thread; without one each step is read when it is asked for.
    """

    def __init__(self, read: Callable[[int], _Read], *, is_on: bool) -> None:
        self._read = read
        self._reader = ThreadPoolExecutor(max_workers=1) if is_on else None
        self._ahead: tuple[int, Future[_Read]] | None = None

    def step(self, step: int) -> _Read:
        """What a step needs."""
        if self._reader is None:
            return self._read(step)
        ahead, self._ahead = self._ahead, None
        found = ahead[1].result() if ahead and ahead[0] == step else self._read(step)
        self._ahead = step + 1, self._reader.submit(self._read, step + 1)
        return found
