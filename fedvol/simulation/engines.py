"""Where the sites of a simulation work: in this process, in a pool of processes, or on Ray.

Sites answer the same messages everywhere, and updates are summed in the order of their sites, so
on CPUs the engine and the number of workers change no bit of a result.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, assert_never, final

import torch

from fedvol.client.agent_spec import AgentSpec
from fedvol.client.cases import SiteCases
from fedvol.client.cases import pool as pool_cases
from fedvol.simulation.failures import failure_of, own_failure
from fedvol.simulation.sites_app import AGENT_KEY, SitesApp, app_in_actor, open_in_worker
from fedvol.telemetry import Observer
from fedvol.transport import (
    Faults,
    InProcessGrid,
    ProcessPool,
    RayWorkers,
    ServerApp,
    SimulatedGrid,
    WorkerGrid,
    Workers,
    cluster_address,
    cluster_resources,
    run_server_app,
    share_resources,
)
from fedvol.types import SiteId

EngineName = Literal["in-process", "ray"]
NodeConfig = Mapping[SiteId, Mapping[str, str]]
"""What each site's node is told."""

_FEW_CPUS = 4
"""Below it a simulation stays in one process: each worker loads the heavy libraries anew."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Where sites work.

    Attributes:
        name: What the command line calls it.
        num_workers: Sites that work at one time.
        grid_over: A grid over agents, from each site's node configuration, a list that takes what
            sites raise before their reply arrives, and what goes wrong on the way.
        close: Ends every process that was started.
    """

    name: EngineName
    num_workers: int
    grid_over: Callable[[NodeConfig, list[Exception], Faults | None], SimulatedGrid]
    close: Callable[[], None]

    def run(
        self,
        server_app: ServerApp,
        specs: Mapping[SiteId, AgentSpec],
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
        told = {site: {AGENT_KEY: spec.model_dump_json()} for site, spec in specs.items()}
        run_server_app(server_app, self.grid_over(told, failures, faults))


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
        workers: Sites that work at one time, no more than there are; None: as `default_workers`
            says. A cluster of Ray decides itself.
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
    num_workers = min(num_workers, len(cases))
    match name:
        case "in-process":
            if num_workers == 1:
                return _here(cases, device=device, observer=observer)
            open_app = partial(
                open_in_worker, device_type=device.type, num_gpus=num_gpus, num_workers=num_workers
            )
            pool = ProcessPool(open_app, num_workers=num_workers, observer=observer)
            return _elsewhere(name, pool, num_workers=num_workers, close=pool.close)
        case "ray":
            if cluster_address():  # how many actors share a machine is not known there
                resources = cluster_resources(num_threads=num_threads, num_gpus=num_gpus)
                neighbours = 1
            else:
                resources = share_resources(num_workers, num_gpus=num_gpus)
                neighbours = num_workers
            open_app = partial(app_in_actor, device.type, num_workers=neighbours)
            actors = RayWorkers(open_app, resources=resources)
            return _elsewhere(name, actors, num_workers=actors.num_workers, close=actors.close)
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


def _here(cases: Mapping[SiteId, SiteCases], *, device: torch.device, observer: Observer) -> Engine:
    """One site after the other, in this process."""

    def grid_over(
        told: NodeConfig, failures: list[Exception], faults: Faults | None
    ) -> SimulatedGrid:
        app = SitesApp(
            device=device,
            observer=observer,
            cases=_opened(cases),
            on_failure=lambda error: failures.append(own_failure(error)),
        )
        return InProcessGrid(app, sites=tuple(told), node_config=told, faults=faults)

    return Engine(name="in-process", num_workers=1, grid_over=grid_over, close=lambda: None)


def _elsewhere(
    name: EngineName, workers: Workers, *, num_workers: int, close: Callable[[], None]
) -> Engine:
    """Several sites at a time, in other processes."""

    def grid_over(
        told: NodeConfig, failures: list[Exception], faults: Faults | None
    ) -> SimulatedGrid:
        return WorkerGrid(
            workers,
            sites=tuple(told),
            node_config=told,
            faults=faults,
            on_failure=lambda site, text: failures.append(failure_of(site, text)),
        )

    return Engine(name=name, num_workers=num_workers, grid_over=grid_over, close=close)


def _opened(cases: Mapping[SiteId, SiteCases]) -> Callable[[AgentSpec], SiteCases]:
    def cases_of(spec: AgentSpec) -> SiteCases:
        own = {SiteId(site): cases[SiteId(site)] for site in spec.cases}
        return pool_cases(own) if spec.is_pooled else own[SiteId(spec.site)]

    return cases_of
