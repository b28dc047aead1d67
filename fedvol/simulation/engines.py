"""Where the sites of a simulation work: in this process, in a pool of processes, or on Ray.

Sites answer the same messages everywhere, and updates are summed in the order of their sites, so
on CPUs the engine and the number of workers change no bit of a result.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal, Protocol, assert_never, final

import torch

from fedvol.client import AgentSpec, SiteCases
from fedvol.client import pool as pool_cases
from fedvol.simulation.failures import failure_of, own_failure
from fedvol.simulation.sites_app import AGENT_KEY, SitesApp, app_in_actor, open_in_worker
from fedvol.telemetry import Observer
from fedvol.transport import (
    Faults,
    InProcessGrid,
    ProcessPool,
    RayWorkers,
    ServerApp,
    WorkerGrid,
    Workers,
    cluster_address,
    cluster_resources,
    run_server_app,
    share_resources,
)
from fedvol.types import SiteId

EngineName = Literal["in-process", "ray"]
Specs = Mapping[SiteId, AgentSpec]

_FEW_CPUS = 4
"""Below it a simulation stays in one process: see docs/engines.md for what was measured."""


class Engine(Protocol):
    """Where sites work."""

    @property
    def name(self) -> EngineName:
        """What the command line calls it."""
        ...

    @property
    def num_workers(self) -> int:
        """Sites that work at one time."""
        ...

    def run(
        self,
        server_app: ServerApp,
        specs: Specs,
        *,
        failures: list[Exception],
        faults: Faults | None = None,
    ) -> None:
        """Run a server app to its end over agents.

        Args:
            server_app: From `make_server_app`.
            specs: Each site's agent.
            failures: Takes what sites raise, before their reply arrives.
            faults: What goes wrong on the way; None: nothing.

        Raises:
            FedvolError: Whatever the server app raises.
        """
        ...

    def close(self) -> None:
        """End every process that was started."""
        ...


@final
class InThisProcess:
    """One site after the other, here.

    Args:
        device: Where networks run.
        observer: Hears of progress.
        cases: Opens an agent's cases.
    """

    name: EngineName = "in-process"
    num_workers = 1

    def __init__(
        self,
        *,
        device: torch.device,
        observer: Observer,
        cases: Callable[[AgentSpec], SiteCases],
    ) -> None:
        self._device = device
        self._observer = observer
        self._cases = cases

    def run(
        self,
        server_app: ServerApp,
        specs: Specs,
        *,
        failures: list[Exception],
        faults: Faults | None = None,
    ) -> None:
        """See `Engine`."""
        app = SitesApp(
            device=self._device,
            observer=self._observer,
            cases=self._cases,
            on_failure=lambda error: failures.append(own_failure(error)),
        )
        grid = InProcessGrid(
            app, sites=tuple(specs), node_config=_node_config(specs), faults=faults
        )
        run_server_app(server_app, grid)

    def close(self) -> None:
        """Nothing was started."""


@final
class OverWorkers:
    """Several sites at a time, in other processes.

    Args:
        name: What the command line calls it.
        workers: The processes.
        num_workers: How many.
        close: Ends them.
    """

    def __init__(
        self,
        name: EngineName,
        *,
        workers: Workers,
        num_workers: int,
        close: Callable[[], None],
    ) -> None:
        self.name: EngineName = name
        self.num_workers = num_workers
        self._workers = workers
        self._close = close

    def run(
        self,
        server_app: ServerApp,
        specs: Specs,
        *,
        failures: list[Exception],
        faults: Faults | None = None,
    ) -> None:
        """See `Engine`."""
        grid = WorkerGrid(
            self._workers,
            sites=tuple(specs),
            node_config=_node_config(specs),
            faults=faults,
            on_failure=lambda site, text: failures.append(failure_of(site, text)),
        )
        run_server_app(server_app, grid)

    def close(self) -> None:
        """See `Engine`."""
        self._close()


def start_engine(
    name: EngineName,
    *,
    workers: int | None,
    num_threads: int,
    cases: Mapping[SiteId, SiteCases],
    device: torch.device,
    observer: Observer,
) -> Engine:
    """Start the processes of an engine.

    Args:
        name: Which.
        workers: Sites that work at one time; None: as `default_workers` says.
        num_threads: Threads of one training.
        cases: Each site's cases, as they are open in this process.
        device: Where networks run.
        observer: Hears of progress.

    Raises:
        EngineError: The engine is not installed, or does not start.
    """
    num_gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    num_workers = workers or default_workers(
        num_sites=len(cases), num_threads=num_threads, num_cpus=usable_cpus(), num_gpus=num_gpus
    )
    match name:
        case "in-process":
            if num_workers == 1:
                return InThisProcess(device=device, observer=observer, cases=_opened(cases))
            pool = ProcessPool(
                partial(open_in_worker, device_type=device.type, num_gpus=num_gpus),
                num_workers=num_workers,
                observer=observer,
            )
            return OverWorkers(name, workers=pool, num_workers=num_workers, close=pool.close)
        case "ray":
            if cluster_address():
                resources = cluster_resources(num_threads=num_threads, num_gpus=num_gpus)
            else:
                resources = share_resources(num_workers, num_gpus=num_gpus)
            actors = RayWorkers(partial(app_in_actor, device.type), resources=resources)
            return OverWorkers(
                name,
                workers=actors,
                num_workers=actors.num_workers,
                close=actors.close,
            )
        case _:
            assert_never(name)


def default_workers(*, num_sites: int, num_threads: int, num_cpus: int, num_gpus: int) -> int:
    """Sites that work at one time where nobody says how many.

    One a GPU; on CPUs as many as have threads of their own, on small machines one.

    Args:
        num_sites: Sites of the federation.
        num_threads: Threads of one training on CPU.
        num_cpus: CPUs of this machine.
        num_gpus: GPUs; 0 for training on CPUs.
    """
    if num_gpus:
        return min(num_gpus, num_sites)
    if num_cpus < _FEW_CPUS:
        return 1
    return max(1, min(num_cpus // num_threads, num_sites))


def usable_cpus() -> int:
    """CPUs this process may use: by its affinity, and by its control group's quota."""
    held = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = Path("/sys/fs/cgroup/cpu.max")
    try:
        limit, period = quota.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return held  # no control group, or one of the first version
    return held if limit == "max" else max(1, min(held, int(limit) // int(period)))


def _node_config(specs: Specs) -> dict[SiteId, dict[str, str]]:
    return {site: {AGENT_KEY: spec.model_dump_json()} for site, spec in specs.items()}


def _opened(cases: Mapping[SiteId, SiteCases]) -> Callable[[AgentSpec], SiteCases]:
    def cases_of(spec: AgentSpec) -> SiteCases:
        own = {SiteId(site): cases[SiteId(site)] for site in spec.cases}
        return pool_cases(own) if spec.is_pooled else own[SiteId(spec.site)]

    return cases_of
