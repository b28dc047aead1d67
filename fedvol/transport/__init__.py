"""The link between server and sites: Flower, behind one adapter."""

from fedvol.transport.clock import Clock, SystemClock, VirtualClock
from fedvol.transport.engine import ClientApp, Context, Message, ServerApp
from fedvol.transport.faults import Fault, Faults
from fedvol.transport.flower import failed_reply, make_client_app, make_server_app
from fedvol.transport.flower_link import FlowerLink
from fedvol.transport.in_process import InProcessGrid, run_in_process
from fedvol.transport.process_pool import ProcessPool
from fedvol.transport.ray_workers import (
    RayResources,
    RayWorkers,
    cluster_address,
    cluster_resources,
    share_resources,
)
from fedvol.transport.simulated_grid import SimulatedGrid, run_server_app
from fedvol.transport.worker_grid import Answer, WorkerGrid, Workers

__all__ = [
    "Answer",
    "ClientApp",
    "Clock",
    "Context",
    "Fault",
    "Faults",
    "FlowerLink",
    "InProcessGrid",
    "Message",
    "ProcessPool",
    "RayResources",
    "RayWorkers",
    "ServerApp",
    "SimulatedGrid",
    "SystemClock",
    "VirtualClock",
    "WorkerGrid",
    "Workers",
    "cluster_address",
    "cluster_resources",
    "failed_reply",
    "make_client_app",
    "make_server_app",
    "run_in_process",
    "run_server_app",
    "share_resources",
]
