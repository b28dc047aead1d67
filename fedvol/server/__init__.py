"""The coordinating side of a run: rounds, records, release. Never imports torch."""

from fedvol.server.clock import Clock, SystemClock
from fedvol.server.coordinator import Coordinator, Outcome

__all__ = ["Clock", "Coordinator", "Outcome", "SystemClock"]
