"""The whole schema of the files people write, as frozen models."""

from fedvol.config.loading import load_study, study_schema
from fedvol.config.site import SIMULATION_POLICY, SitePolicy
from fedvol.config.study import Study

__all__ = ["SIMULATION_POLICY", "SitePolicy", "Study", "load_study", "study_schema"]
