"""The coordinating side of a run: rounds, records, release. Never imports torch."""

from fedvol.server.clock import Clock, SystemClock
from fedvol.server.coordinator import Coordinator, Outcome
from fedvol.server.fingerprints import ask_fingerprints

__all__ = ["Clock", "Coordinator", "Outcome", "SystemClock", "ask_fingerprints"]
