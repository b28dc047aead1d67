"""A hospital's side: its cases, its local training and judging, and the agent that answers."""

from fedvol.client.agent import SiteAgent
from fedvol.client.cases import SiteCase, SiteCases, open_cases, pool
from fedvol.client.judging import inference_window, judge
from fedvol.client.prepare import PreparedSite, prepare_sites, skipped_cases

__all__ = [
    "PreparedSite",
    "SiteAgent",
    "SiteCase",
    "SiteCases",
    "inference_window",
    "judge",
    "open_cases",
    "pool",
    "prepare_sites",
    "skipped_cases",
]
