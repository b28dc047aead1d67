"""How a link waits: really, or only in its own reckoning."""

import time
from typing import Protocol, final


class Clock(Protocol):
    """Time as a link needs it."""

    def now_s(self) -> float:
        """Seconds that never go back."""
        ...

    def wait(self, seconds: float) -> None:
        """Let some time pass."""
        ...


@final
class SystemClock:
    """The machine's time."""

    def now_s(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


@final
class VirtualClock:
    """Time that passes only while something is waited for.

    In one process sites work one after the other inside the link, so the time one site takes must
    not count against another, and a silent site need not be waited for. Limits then depend on
    nothing but silence, and a repeated run ends the same way.
    """

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        """Seconds that were waited for so far."""
        return self._now_s

    def wait(self, seconds: float) -> None:
        """Add to the reckoning, at once."""
        self._now_s += max(0.0, seconds)
