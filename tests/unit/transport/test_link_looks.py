"""A look for replies is one question to the grid, however many sites are pending."""

from collections.abc import Iterable, Iterator

import pytest

from fedvol.errors import TransportError
from fedvol.federation import Action, Request
from fedvol.privacy.contribution import Kind, sealed
from fedvol.transport import FlowerLink, VirtualClock, make_client_app
from fedvol.transport.engine import Message, NodeInfo
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


def requests(sites: list[SiteId], *, limit_s: float = 60.0) -> list[Request]:
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
            limit_s=limit_s,
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


class Staggered(SimulatedGrid):
    """Each site answers a while after the one before it, and one of them never."""

    def __init__(self, answers_s: dict[str, float]) -> None:
        sites = [SiteId(site) for site in answers_s]
        super().__init__(sites=sites, clock=VirtualClock())
        self.sites = sites
        self.answers_s = answers_s
        self.calls: list[float] = []
        self.pushed: list[tuple[str, float]] = []
        self.anew_s: dict[str, float] = {}
        self._names = {node.node_id: node.name for node in super().get_nodes()}
        self._sent: dict[str, Message] = {}
        self._app = make_client_app(answer)

    def get_nodes(self):
        return [
            NodeInfo(
                node_id=node,
                name=name,
                last_activated_at=str(self.anew_s.get(name, 1e9) <= self.clock.now_s()),
            )
            for node, name in self._names.items()
        ]

    def _accept(self, message: Message) -> None:
        self._sent[message.metadata.message_id] = message
        self.pushed.append((self._names[message.metadata.dst_node_id], self.clock.now_s()))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        now_s = self.clock.now_s()
        self.calls.append(now_s)
        for message_id in sorted(message_ids):
            node = self._sent[message_id].metadata.dst_node_id
            if self.answers_s[self._names[node]] <= now_s:
                yield named(self._app(self._sent[message_id], self._contexts[node]))

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError


def test_limits_pass_while_answers_keep_coming_and_the_reader_is_slow() -> None:
    """Five answers, one every four seconds, and a reader who takes four seconds for each."""
    grid = Staggered({"a": 0.0, "b": 4.0, "c": 8.0, "d": 12.0, "e": 16.0})
    link = FlowerLink(grid, poll_s=POLL_S, awaits_return=True)
    read: list[str] = []
    for reply in link.ask(requests(grid.sites, limit_s=6.0)):
        read.append(reply.site)
        grid.clock.wait(4.0)
    # At 8 s, the first look after the limit of 6 s, c is there; d and e come too late.
    assert read == ["a", "b", "c"]
    assert grid.calls == [0.0, 4.0, 8.0]


def test_a_site_that_comes_back_is_not_kept_waiting_by_the_answers_of_others() -> None:
    grid = Staggered({"a": 0.0, "b": 4.0, "c": 8.0, "d": 1000.0})
    grid.anew_s["d"] = 1.0
    link = FlowerLink(grid, poll_s=POLL_S, awaits_return=True)
    for _ in link.ask(requests(grid.sites, limit_s=20.0)):
        grid.clock.wait(4.0)
    assert [at_s for site, at_s in grid.pushed if site == "d"] == [0.0, 4.0]
