"""`SitesApp`: the ClientApp of a process that is the place of work of many simulated sites.

A message's node says, in its configuration, how its site's agent is opened. Agents stay open
until a message of another plan comes; those of one plan share one network.
"""

from collections.abc import Callable
from functools import cache
from typing import final

import torch

from fedvol.client.agent import SiteAgent
from fedvol.client.agent_spec import AgentSpec, open_agent, read_cases, read_plan
from fedvol.client.cases import SiteCases
from fedvol.client.plan_network import PlanNetwork
from fedvol.data.decoded import share_limit
from fedvol.federation import Request
from fedvol.plan import Plan
from fedvol.privacy import Contribution
from fedvol.simulation.failures import describe_failure
from fedvol.telemetry import Broadcast, Observer
from fedvol.transport import Context, Message, failed_reply, make_client_app
from fedvol.types import SiteId

AGENT_KEY = "fedvol-agent"
"""Key of a node's configuration under which its agent's description stands."""


@final
class SitesApp:
    """Answers a message with the agent its node describes.

    An error that an agent lets through stands in the reply as `describe_failure` writes it: the
    sites of a simulation are the researcher's own, and may be in another process.

    Args:
        device: Where networks run.
        observer: Hears of progress.
        cases: Opens an agent's cases.
        on_failure: Hears of what agents let through, in this process.
    """

    def __init__(
        self,
        *,
        device: torch.device,
        observer: Observer,
        cases: Callable[[AgentSpec], SiteCases] = read_cases,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        self._device = device
        self._observer = observer
        self._cases = cases
        self._on_failure = on_failure
        self._shared: tuple[Plan, PlanNetwork] | None = None
        self._agents: dict[str, SiteAgent] = {}

    def __call__(self, message: Message, context: Context) -> Message:
        """The reply to a message."""
        failures: list[Exception] = []

        def handle(site: SiteId, request: Request) -> Contribution:
            del site  # the description names it
            try:
                return self._agent(str(context.node_config[AGENT_KEY])).handle(request)
            except Exception as error:
                if self._on_failure is not None:
                    self._on_failure(error)
                failures.append(error)
                raise

        reply = make_client_app(handle)(message, context)
        return failed_reply(message, describe_failure(failures[0])) if failures else reply

    def _agent(self, text: str) -> SiteAgent:
        if text not in self._agents:
            spec = AgentSpec.model_validate_json(text)
            if self._shared is None or self._shared[0].digest != spec.plan:
                self._agents.clear()
                plan = read_plan(spec)
                self._shared = plan, PlanNetwork(plan, device=self._device)
            plan, network = self._shared
            self._agents[text] = open_agent(
                spec,
                plan=plan,
                cases=self._cases(spec),
                network=network,
                observer=self._observer,
            )
        return self._agents[text]


def open_in_worker(
    worker: int, observer: Observer, *, device_type: str, num_gpus: int, num_workers: int
) -> SitesApp:
    """The app of one process of a pool.

    Args:
        worker: Number of the process.
        observer: Hears of progress.
        device_type: `cpu` or `cuda`.
        num_gpus: GPUs of this machine.
        num_workers: Processes that share this machine's memory.
    """
    share_limit(num_workers)
    device = worker_device(worker, device_type=device_type, num_gpus=num_gpus)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return SitesApp(device=device, observer=observer)


def worker_device(worker: int, *, device_type: str, num_gpus: int) -> torch.device:
    """The device of a worker: the GPUs in turn, so that each gets as many workers as another."""
    if device_type != "cuda":
        return torch.device(device_type)
    return torch.device("cuda", worker % num_gpus)


@cache
def app_in_actor(device_type: str, *, num_workers: int) -> SitesApp:
    """The app of one Ray actor, which sees no GPU but its own; kept while the actor lives."""
    share_limit(num_workers)
    return SitesApp(device=torch.device(device_type), observer=Broadcast(()))
