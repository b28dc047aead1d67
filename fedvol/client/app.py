"""The Flower ClientApp of a site: every message goes to the site's agent."""

from collections.abc import Callable, Mapping

from fedvol.errors import SiteFailedError
from fedvol.federation import Request
from fedvol.privacy import Contribution
from fedvol.transport import ClientApp, make_client_app
from fedvol.types import SiteId


def client_app(agents: Mapping[SiteId, Callable[[Request], Contribution]]) -> ClientApp:
    """A ClientApp for this process's agents: one at a hospital, all of them in a simulation.

    Args:
        agents: Each site's `SiteAgent.handle`.
    """

    def handle(site: SiteId, request: Request) -> Contribution:
        if site not in agents:
            raise SiteFailedError(
                f"site {site}", "no agent of this name runs here", "Check the node's configuration."
            )
        return agents[site](request)

    return make_client_app(handle)
