"""A server's process that ends just before one of its writes."""

from collections.abc import Callable
from typing import Any

STORE_WRITES = (
    "create_run",
    "set_run_state",
    "open_round",
    "set_round_state",
    "put_site_round",
    "put_metrics",
    "add_checkpoint",
    "put_evaluation",
)
BLOB_WRITES = ("put", "prune")


class Killed(BaseException):
    """No handler of the product catches it."""


class Dying:
    """A store whose owner dies just before one of its writes."""

    def __init__(self, target: Any, *, writes: tuple[str, ...], tick: Callable[[], None]) -> None:
        self._target, self._writes, self._tick = target, writes, tick

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name not in self._writes:
            return found

        def write(*args: Any, **kwargs: Any) -> Any:
            self._tick()
            return found(*args, **kwargs)

        return write


class Counter:
    """Counts writes, and ends the life of whoever makes the one that is fatal."""

    def __init__(self, *, fatal: int | None = None) -> None:
        self.writes, self._fatal = 0, fatal

    def tick(self) -> None:
        self.writes += 1
        if self.writes == self._fatal:
            raise Killed
