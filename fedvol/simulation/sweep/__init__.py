"""Several variants of one study, each a simulation of its own, and what they say together."""

from fedvol.simulation.sweep.sweep import sweep

__all__ = ["sweep"]
