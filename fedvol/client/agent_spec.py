"""`AgentSpec`: what another process needs to open a site's agent. All else is on disk."""

from pathlib import Path

from fedvol.audit import AuditLog
from fedvol.client.agent import SiteAgent
from fedvol.client.cases import SiteCases, open_cases, pool
from fedvol.client.plan_network import PlanNetwork
from fedvol.config import SitePolicy
from fedvol.config.base import Section
from fedvol.data import CaseRecord
from fedvol.data.case_store import CaseStore
from fedvol.errors import CheckpointError, ConfigError
from fedvol.files import store_error
from fedvol.plan import Plan
from fedvol.store import SqlCatalogue
from fedvol.telemetry import Observer
from fedvol.types import Digest, SiteId


class AgentSpec(Section):
    """A site's agent, described; travels as JSON."""

    site: str
    """Which site it is."""
    plan_file: str
    """Path of the plan's JSON."""
    plan: Digest
    """The plan's digest."""
    folder: str
    """The agent's own folder: local state, rows, audit log."""
    cases: dict[str, str]
    """Folder of each site whose prepared cases it uses; more than one only for the pooled model."""
    is_pooled: bool
    """Whether the cases are those of several sites, as if one held them."""
    policy: SitePolicy
    """What may leave."""
    resampling_key: Digest
    """Seed of bootstrap resamples."""


def read_plan(spec: AgentSpec) -> Plan:
    """The plan that a description names.

    Raises:
        CheckpointError: The file is damaged, or holds another plan.
        StoreError: It cannot be read.
    """
    path = Path(spec.plan_file)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise store_error(path, error) from error
    try:
        plan = Plan.model_validate_json(text)
    except (ValueError, ConfigError) as error:
        raise _other_plan(path) from error
    if plan.digest != spec.plan:
        raise _other_plan(path)
    return plan


def read_cases(spec: AgentSpec) -> SiteCases:
    """The cases of a description, from its sites' catalogues and case stores.

    Raises:
        StoreError: A catalogue cannot be read.
        CaseStoreError: A prepared case is absent or cut short.
    """
    opened: dict[SiteId, SiteCases] = {}
    for site, folder in spec.cases.items():
        catalogue = SqlCatalogue(Path(folder) / "catalogue.db", record=CaseRecord)
        try:
            records = catalogue.records()
        finally:
            catalogue.close()
        opened[SiteId(site)] = open_cases(records, store=CaseStore(Path(folder) / "cases"))
    return pool(opened) if spec.is_pooled else opened[SiteId(spec.site)]


def open_agent(
    spec: AgentSpec,
    *,
    plan: Plan,
    cases: SiteCases,
    network: PlanNetwork,
    observer: Observer,
) -> SiteAgent:
    """Open the agent that a description names; its audit log is checked.

    Args:
        spec: The description.
        plan: Its plan.
        cases: Its cases.
        network: The plan's network, on its device; other agents of the process may share it.
        observer: Hears of progress.

    Raises:
        AuditError: The audit log was changed, or cannot be read or written.
    """
    folder = Path(spec.folder)
    return SiteAgent(
        site=SiteId(spec.site),
        plan=plan,
        cases=cases,
        folder=folder,
        policy=spec.policy,
        audit=AuditLog(folder / "audit.jsonl"),
        resampling_key=spec.resampling_key,
        observer=observer,
        network=network,
    )


def _other_plan(path: Path) -> CheckpointError:
    return CheckpointError(
        str(path), "is not the plan of this run", "Begin anew in another folder with --out."
    )
