"""The whole schema of the files people write, as frozen models."""

from fedvol.config.loading import close_study, load_open_study, load_study, study_schema
from fedvol.config.open_study import OpenStudy
from fedvol.config.site import SIMULATION_POLICY, DataSource, SiteConfig, SitePolicy
from fedvol.config.site_loading import load_site
from fedvol.config.study import Study

__all__ = [
    "SIMULATION_POLICY",
    "DataSource",
    "OpenStudy",
    "SiteConfig",
    "SitePolicy",
    "Study",
    "close_study",
    "load_open_study",
    "load_site",
    "load_study",
    "study_schema",
]
