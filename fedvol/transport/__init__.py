"""The link between server and sites: Flower, behind one adapter."""

from fedvol.transport.clock import Clock, SystemClock, VirtualClock
from fedvol.transport.engine import ClientApp, ServerApp
from fedvol.transport.flower import FlowerLink, make_client_app, make_server_app
from fedvol.transport.in_process import Fault, InProcessGrid, run_in_process

__all__ = [
    "ClientApp",
    "Clock",
    "Fault",
    "FlowerLink",
    "InProcessGrid",
    "ServerApp",
    "SystemClock",
    "VirtualClock",
    "make_client_app",
    "make_server_app",
    "run_in_process",
]
