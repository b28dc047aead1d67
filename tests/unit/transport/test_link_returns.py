"""A site whose node goes and comes back is asked again, within the request's limit."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from fedvol.errors import SignatureError, SiteFailedError, TransportError
from fedvol.federation import Action, Request
from fedvol.privacy.contribution import Kind, sealed
from fedvol.transport import FlowerLink, VirtualClock, failed_reply, make_client_app
from fedvol.transport.carriers import InlineServer
from fedvol.transport.engine import Error, Message, NodeInfo
from fedvol.transport.flower import node_context
from fedvol.transport.flower_link import MAX_UNSIGNED
from fedvol.transport.simulated_grid import SimulatedGrid, named
from fedvol.types import Digest, RunId, SiteId

SITE = SiteId("site_a")
NODE_GONE = 5


def answer(site: SiteId, request: Request):
    return sealed(Kind.HEALTH, values={"site": site}, tensors={}, digest=Digest("0" * 64))


@dataclass
class Away:
    """A time in which the site's node is not there."""

    begins_s: float
    ends_s: float


class ComingAndGoing(SimulatedGrid):
    """A grid of one site; a message to it is lost if the site goes before two seconds passed."""

    def __init__(self, away: list[Away]) -> None:
        super().__init__(sites=[SITE], clock=VirtualClock())
        self.away = away
        self.pushed: list[float] = []
        self._sent: dict[str, tuple[Message, float]] = {}
        self._app = make_client_app(answer)

    def get_nodes(self):
        return super().get_nodes() if not self._is_away(self.clock.now_s()) else ()

    def _accept(self, message: Message) -> None:
        now_s = self.clock.now_s()
        self.pushed.append(now_s)
        self._sent[message.metadata.message_id] = (message, now_s)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        now_s = self.clock.now_s()
        for message_id in message_ids:
            message, sent_s = self._sent[message_id]
            if any(sent_s <= one.begins_s < min(now_s, sent_s + 2.0) for one in self.away):
                return [named(Message(Error(NODE_GONE, ""), reply_to=message))]
            if now_s >= sent_s + 2.0:
                context = node_context(message.metadata.dst_node_id, {"site": SITE}, run=1)
                return [named(self._app(message, context))]
        return []

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError

    def _is_away(self, now_s: float) -> bool:
        return any(one.begins_s <= now_s < one.ends_s for one in self.away)


def request(limit_s: float = 60.0) -> Request:
    return Request(
        run=RunId("run"),
        plan=Digest("1" * 64),
        stage=0,
        round=1,
        site=SITE,
        action=Action.HEALTH,
        state={},
        arguments={},
        limit_s=limit_s,
    )


def ask(grid: ComingAndGoing, *, limit_s: float = 60.0, awaits_return: bool = True):
    link = FlowerLink(grid, poll_s=0.5, awaits_return=awaits_return)
    return list(link.ask([request(limit_s)]))


def test_a_site_that_stays_is_asked_once() -> None:
    grid = ComingAndGoing([])
    (reply,) = ask(grid)
    assert (reply.code, len(grid.pushed)) == ("", 1)


@pytest.mark.parametrize("times", [1, 3])
def test_a_site_that_comes_back_is_asked_again(times: int) -> None:
    grid = ComingAndGoing([Away(1.0 + 8 * n, 8.0 + 8 * n) for n in range(times)])
    (reply,) = ask(grid)
    assert reply.code == ""
    assert len(grid.pushed) == 1 + times
    assert not any(grid._is_away(at_s) for at_s in grid.pushed)


class SigningOnAnew(ComingAndGoing):
    """Its site loses what it was given, and is back before anybody looks."""

    def __init__(self, anew_s: list[float]) -> None:
        super().__init__([])
        self.anew_s = anew_s

    def get_nodes(self):
        times = sum(at_s <= self.clock.now_s() for at_s in self.anew_s)
        nodes = super().get_nodes()
        return [
            NodeInfo(node_id=node.node_id, name=node.name, last_activated_at=f"{times}")
            for node in nodes
        ]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        kept = [
            one
            for one in message_ids
            if not any(self._sent[one][1] < at_s <= self.clock.now_s() for at_s in self.anew_s)
        ]
        return super().pull_messages(kept)


@pytest.mark.parametrize("anew_s", [[1.1], [0.1, 1.1, 2.9]])
def test_a_site_that_was_away_unseen_is_asked_again(anew_s: list[float]) -> None:
    grid = SigningOnAnew(anew_s)
    (reply,) = ask(grid)
    assert reply.code == ""
    assert len(grid.pushed) == 1 + len(anew_s)
    assert grid.clock.now_s() == pytest.approx(anew_s[-1] + 2.0, abs=1.0)


def test_a_site_that_is_not_there_yet_is_waited_for() -> None:
    grid = ComingAndGoing([Away(0.0, 20.0)])
    (reply,) = ask(grid)
    assert reply.code == ""
    assert grid.pushed == [20.0]


def test_a_site_that_stays_away_is_silent_once_the_limit_has_passed() -> None:
    grid = ComingAndGoing([Away(1.0, 1000.0)])
    assert ask(grid, limit_s=30.0) == []
    assert grid.clock.now_s() == pytest.approx(30.0, abs=1.0)


def test_the_limit_is_not_begun_anew() -> None:
    """Whoever comes and goes all the time cannot hold a round up."""
    grid = ComingAndGoing([Away(1.0 + 2 * n, 2.0 + 2 * n) for n in range(1000)])
    assert ask(grid, limit_s=30.0) == []
    assert grid.clock.now_s() == pytest.approx(30.0, abs=1.0)


class Forged(ComingAndGoing):
    """The first answers in the site's name are somebody else's."""

    def __init__(self, num: int) -> None:
        super().__init__([])
        self.num = num


class Suspicious:
    """Finds answers forged as long as the grid says so."""

    def __init__(self, grid: Forged) -> None:
        self.grid = grid
        self.inner = InlineServer()

    def encode(self, request: Request):
        return self.inner.encode(request)

    def decode(self, content, *, request: Request, bytes_down: int):
        if self.grid.num:
            self.grid.num -= 1
            raise SignatureError("answer", "not the site's", "Trust nothing in it.")
        return self.inner.decode(content, request=request, bytes_down=bytes_down)

    def release(self, reply) -> None:
        self.inner.release(reply)


@pytest.mark.parametrize(
    ("num", "code"), [(1, ""), (MAX_UNSIGNED, ""), (MAX_UNSIGNED + 1, SignatureError.code)]
)
def test_a_forged_answer_does_not_cost_the_site_its_own(num: int, code: str) -> None:
    grid = Forged(num)
    link = FlowerLink(grid, carrier=Suspicious(grid), poll_s=0.5, awaits_return=True)
    (reply,) = link.ask([request()])
    assert reply.code == code
    assert len(grid.pushed) == min(num, MAX_UNSIGNED) + 1


class Failing(ComingAndGoing):
    """The first answers are failures without a signature, which anybody on the way can make."""

    def __init__(self, num: int) -> None:
        super().__init__([])
        self.num = num

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        message_ids = list(message_ids)
        if not self.num:
            return super().pull_messages(message_ids)
        self.num -= 1
        message, _ = self._sent[message_ids[0]]
        return [named(failed_reply(message))]


@pytest.mark.parametrize(
    ("num", "code"), [(1, ""), (MAX_UNSIGNED, ""), (MAX_UNSIGNED + 1, SiteFailedError.code)]
)
def test_a_failure_without_a_signature_does_not_cost_the_site_its_answer(
    num: int, code: str
) -> None:
    grid = Failing(num)
    (reply,) = ask(grid)
    assert (reply.code, len(grid.pushed)) == (code, min(num, MAX_UNSIGNED) + 1)
    pauses = [later - earlier for earlier, later in itertools.pairwise(grid.pushed)]
    assert pauses == [1.0, 2.0, 4.0][: len(pauses)], "longer than a look of 0.5 s, and growing"


def test_in_one_process_a_failure_is_the_sites_own() -> None:
    grid = Failing(1)
    (reply,) = ask(grid, awaits_return=False)
    assert (reply.code, len(grid.pushed)) == (SiteFailedError.code, 1)


def test_in_one_process_nobody_comes_back() -> None:
    grid = ComingAndGoing([Away(1.0, 8.0)])
    (reply,) = ask(grid, awaits_return=False)
    assert reply.code == TransportError.code
    (reply,) = ask(ComingAndGoing([Away(0.0, 8.0)]), awaits_return=False)
    assert reply.code == TransportError.code
