"""The Flower ServerApp of a run: what the coordinator does, over the adapter's link."""

from collections.abc import Callable

from flwr.serverapp import ServerApp

from fedvol.federation import Link
from fedvol.transport import make_server_app


def server_app(main: Callable[[Link], None]) -> ServerApp:
    """A ServerApp that hands the run's link to `main`."""
    return make_server_app(main)
