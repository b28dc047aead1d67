"""A hospital's side: its cases, its local training and judging, and the agent that answers."""

from fedvol.client.agent import SiteAgent
from fedvol.client.agent_spec import AgentSpec, open_agent, read_cases, read_plan
from fedvol.client.cases import SiteCase, SiteCases, open_cases, pool
from fedvol.client.fingerprinting import FingerprintAgent
from fedvol.client.judging import inference_window, judge, rows_path
from fedvol.client.plan_network import PlanNetwork
from fedvol.client.prepare import (
    PreparedSite,
    check_sites,
    prepare_sites,
    skipped_cases,
    training_sites,
)

__all__ = [
    "AgentSpec",
    "FingerprintAgent",
    "PlanNetwork",
    "PreparedSite",
    "SiteAgent",
    "SiteCase",
    "SiteCases",
    "check_sites",
    "inference_window",
    "judge",
    "open_agent",
    "open_cases",
    "pool",
    "prepare_sites",
    "read_cases",
    "read_plan",
    "rows_path",
    "skipped_cases",
    "training_sites",
]
