"""The phases of a run over a `Network`, and how a test gets into the midst of one."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from network import Network, until

TRAINING_STEPS = 6
"""How often a site of the tiny study tells that it trains: two rounds of three steps."""
JUDGED = 3
"""How often it tells that it judges: a validation case in two rounds, and a test case."""
SLOW_BYTES_PER_S = 30_000.0


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase of a run.

    Attributes:
        name: What it is called.
        reach: Begins a run and returns once the first site, or the coordinator, is in the midst of
            the phase; `share`, from 0 to 1, says how far in it, where it has a length.
    """

    name: str
    reach: Callable[[Network, str, float], None]


@contextmanager
def within(phase: Phase, network: Network, run: str, *, share: float) -> Generator[None]:
    """Begin a run, be in the midst of one of its phases, then let it go on."""
    try:
        phase.reach(network, run, share)
        yield
    finally:
        network.go_on()
        network.wire.up_bytes_per_s = None


def _coordinator_told(event: str, *, count: int = 1) -> Callable[[Network, str, float], None]:
    def reach(network: Network, run: str, share: float) -> None:
        del share  # the coordinator stands still there
        network.hold(event, count=count)
        network.begin(run).await_event(event, count=count)

    return reach


def _site_tells(event: str, *, often: int) -> Callable[[Network, str, float], None]:
    def reach(network: Network, run: str, share: float) -> None:
        site = network.sites[network.first]
        heard = len(site.events(event))
        network.begin(run)
        site.await_event(event, count=heard + 1 + int(share * often))

    return reach


def _uploading(network: Network, run: str, share: float) -> None:
    """The wire is slow once the site has trained, so that its update takes a second or two."""
    site = network.sites[network.first]
    heard = len(site.events("site.training"))
    size = (network.folder / "initial.safetensors").stat().st_size
    network.begin(run)
    site.await_event("site.training", count=heard + 1)
    network.wire.up_bytes_per_s = SLOW_BYTES_PER_S
    folder = network.server / "exchange" / "up" / network.first
    until(lambda: _size_bytes(folder) > share * size / 2, what="the site brings its update")


def _size_bytes(folder: Path) -> int:
    """Bytes of what a site brought; minus one where nothing is there."""
    sizes = [-1]
    for path in folder.glob("*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:  # it was taken just now
            continue
    return max(sizes)


PHASES = {
    phase.name: phase
    for phase in (
        Phase(name="configured", reach=_coordinator_told("round.opened")),
        Phase(name="training", reach=_site_tells("site.training", often=TRAINING_STEPS)),
        Phase(name="uploading", reach=_uploading),
        Phase(name="summing", reach=_coordinator_told("site.contributed", count=3)),
        Phase(name="evaluating", reach=_site_tells("site.evaluating", often=JUDGED)),
        Phase(name="closing", reach=_coordinator_told("round.closed")),
    )
}
