"""A look for replies is one question to the grid, however many sites are pending."""

from collections.abc import Iterable, Iterator

import pytest

from fedvol.errors import TransportError
from fedvol.federation import Action, Request
from fedvol.privacy.contribution import Kind, sealed
from fedvol.transport import FlowerLink, VirtualClock, make_client_app
from fedvol.transport.engine import Message
from fedvol.transport.simulated_grid import SimulatedGrid, named
from fedvol.types import Digest, RunId, SiteId

POLL_S, WORK_S = 0.5, 3.0


def answer(site: SiteId, request: Request):
    return sealed(Kind.HEALTH, values={"site": site}, tensors={}, digest=Digest("0" * 64))


class Remote(SimulatedGrid):
    """Its sites answer at one time; as over a network, one call tells of all answers."""

    def __init__(self, num_sites: int) -> None:
        sites = [SiteId(f"site_{number:03d}") for number in range(num_sites)]
        super().__init__(sites=sites, clock=VirtualClock())
        self.sites = sites
        self.calls: list[float] = []
        self.num_made = 0
        self._sent: dict[str, Message] = {}
        self._app = make_client_app(answer)

    def _accept(self, message: Message) -> None:
        self._sent[message.metadata.message_id] = message

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        self.calls.append(self.clock.now_s())
        if self.clock.now_s() < WORK_S:
            return
        for message_id in sorted(message_ids, reverse=True):
            message = self._sent.pop(message_id)
            self.num_made += 1
            node = message.metadata.dst_node_id
            yield named(self._app(message, self._contexts[node]))

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError


def requests(sites: list[SiteId]) -> list[Request]:
    return [
        Request(
            run=RunId("run"),
            plan=Digest("1" * 64),
            stage=0,
            round=1,
            site=site,
            action=Action.HEALTH,
            state={},
            arguments={},
            limit_s=60.0,
        )
        for site in sites
    ]


@pytest.mark.parametrize("num_sites", [1, 40])
def test_it_asks_as_often_for_many_sites_as_for_one(num_sites: int) -> None:
    grid = Remote(num_sites)
    replies = list(FlowerLink(grid, poll_s=POLL_S).ask(requests(grid.sites)))
    assert sorted(reply.site for reply in replies) == grid.sites
    assert all(reply.values["site"] == reply.site for reply in replies)
    assert grid.calls == [number * POLL_S for number in range(int(WORK_S / POLL_S) + 1)]


def test_an_answer_is_fetched_when_the_reader_wants_it() -> None:
    grid = Remote(5)
    for number, _ in enumerate(FlowerLink(grid).ask(requests(grid.sites)), start=1):
        assert grid.num_made == number
    assert grid.num_made == 5


class Broken(Remote):
    """The link breaks after the first answer."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        for message in super().pull_messages(message_ids):
            yield message
            raise ConnectionError("http://10.0.0.1:8000")


def test_a_link_that_breaks_among_answers_is_a_transport_error() -> None:
    grid = Broken(3)
    replies = FlowerLink(grid).ask(requests(grid.sites))
    assert next(replies).code == ""
    with pytest.raises(TransportError, match="ConnectionError") as caught:
        next(replies)
    assert "10.0.0.1" not in str(caught.value)
