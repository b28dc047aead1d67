"""Hospitals, server and baselines on one machine, through the code that hospitals run."""

from fedvol.simulation.planning import explain_plan
from fedvol.simulation.publish import rebuild_report
from fedvol.simulation.simulate import simulate
from fedvol.simulation.sweep import sweep

__all__ = ["explain_plan", "rebuild_report", "simulate", "sweep"]
