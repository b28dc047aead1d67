"""In which order sites work and answer changes no bit."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import Federation, Recorded, Replay

from fedvol.federation import Action, Link, Reply, Request
from fedvol.transport import Fault
from fedvol.types import SiteId


def figures_of(federation: Federation) -> list[object]:
    return [(record.index, record.aggregate, record.metrics) for record in federation.rounds()]


@pytest.fixture(scope="module")
def expected(tiny_recorded: Recorded) -> list[object]:
    return figures_of(tiny_recorded.federation)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.randoms(use_true_random=False))
def test_order_of_arrival_changes_nothing(
    seed, tiny_recorded: Recorded, expected: list[object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    def shuffled(requests: list[Request]) -> list[Request]:
        seed.shuffle(requests)
        return requests

    again = tiny_recorded.again(tmp_path_factory.mktemp("shuffled"))
    outcome, _ = again.conduct(Replay(tiny_recorded.recording, order=shuffled))
    assert outcome.release == tiny_recorded.outcome.release
    assert figures_of(again) == expected


class BackwardsLink:
    """Sites work one after the other, the last one first."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.worked: list[SiteId] = []

    def sites(self) -> tuple[SiteId, ...]:
        return self._link.sites()

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        for request in reversed(requests):
            for reply in self._link.ask([request]):
                self.worked.append(reply.site)
                yield reply


def test_order_of_work_changes_nothing(
    tiny_recorded: Recorded, expected: list[object], tmp_path: Path
) -> None:
    links: list[BackwardsLink] = []

    def backwards(link: Link) -> BackwardsLink:
        links.append(BackwardsLink(link))
        return links[0]

    again = tiny_recorded.again(tmp_path)
    outcome, _ = again.run(through=backwards)
    assert links[0].worked[:3] == sorted(tiny_recorded.federation.cases, reverse=True)
    assert outcome.release == tiny_recorded.outcome.release
    assert figures_of(again) == expected


def test_doubled_and_foreign_replies_change_nothing(
    tiny_recorded: Recorded, expected: list[object], tmp_path: Path
) -> None:
    def faults(request: Request) -> Fault | None:
        if request.action is Action.FINETUNE:
            return Fault.DUPLICATE if request.site == "hospital_2" else Fault.STRANGER
        return None

    again = tiny_recorded.again(tmp_path)
    outcome, _ = again.run(faults=faults)
    assert outcome.release == tiny_recorded.outcome.release
    assert figures_of(again) == expected


def test_a_replayed_recording_is_the_run(tiny_recorded: Recorded, tmp_path: Path) -> None:
    """The tests above and beside this one rest on it."""
    again = tiny_recorded.again(tmp_path)
    outcome, _ = again.conduct(Replay(tiny_recorded.recording))
    assert outcome.release == tiny_recorded.outcome.release
