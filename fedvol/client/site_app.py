"""The app of a hospital's worker: the agent of one run, over a signed link."""

from functools import partial
from pathlib import Path

import torch

from fedvol.audit import AuditLog
from fedvol.client.agent_spec import AgentSpec, open_agent, read_cases, read_plan
from fedvol.client.plan_network import PlanNetwork
from fedvol.config.base import Section
from fedvol.errors import SiteFailedError
from fedvol.federation import Request
from fedvol.identity import IdentityKey, PublicKeyField, client_context
from fedvol.privacy import Contribution
from fedvol.telemetry import Observer
from fedvol.transport.clock import SystemClock
from fedvol.transport.engine import App
from fedvol.transport.flower import make_client_app
from fedvol.transport.network.blob_client import BlobClient
from fedvol.transport.network.outbox import Outbox
from fedvol.transport.network.signed_site import SignedSite
from fedvol.transport.process_pool import OpenApp
from fedvol.types import SiteId


class SiteAppSpec(Section):
    """What a worker needs to answer for a hospital; all else is on its disk."""

    agent: AgentSpec
    """The agent of the run."""
    address: str
    """Host and port of the server."""
    authority_file: str
    """PEM of the authority whose certificates the server has."""
    identity_file: str
    """The site's identity key."""
    server: PublicKeyField
    """The server's identity, as the roster has it."""
    device: str
    """Where networks run: `cpu` or `cuda`."""


def opens_site_app(spec: SiteAppSpec) -> OpenApp:
    """What a worker is started with."""
    return partial(_open_site_app, spec.model_dump_json())


def _open_site_app(text: str, number: int, observer: Observer) -> App:
    del number  # a hospital has one worker
    spec = SiteAppSpec.model_validate_json(text)
    folder = Path(spec.agent.folder)
    plan = read_plan(spec.agent)
    agent = open_agent(
        spec.agent,
        plan=plan,
        cases=read_cases(spec.agent),
        network=PlanNetwork(plan, device=torch.device(spec.device)),
        observer=observer,
    )
    site = SiteId(spec.agent.site)
    key = IdentityKey.load(Path(spec.identity_file))
    tls = client_context(Path(spec.authority_file).read_bytes())

    def handle(named: SiteId, request: Request) -> Contribution:
        if named != site:
            raise SiteFailedError(
                f"site {site}", "a message for another site came", "Look at the node's settings."
            )
        return agent.handle(request)

    carrier = SignedSite(
        key,
        server=spec.server,
        blobs=BlobClient(spec.address, tls=tls, key=key, site=site),
        outbox=Outbox(folder / "outbox"),
        allows=lambda request: request.plan == plan.digest,
        audit=AuditLog(folder / "audit.jsonl", signer=key),
        refuses=agent.refuse,
        incoming=folder / "incoming",
        clock=SystemClock(),
    )
    return make_client_app(handle, carrier=carrier)
