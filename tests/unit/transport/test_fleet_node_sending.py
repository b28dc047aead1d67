"""The node asks before every try to bring an answer; what may not leave is replaced."""

import threading
from pathlib import Path

from departing import AllDepart
from tiny import Events

from fedvol.errors import FedvolError, LinkDownError, MessageRefusedError, StrangeBundleError
from fedvol.transport.engine import ConfigRecord, Message, RecordDict, set_task_identity
from fedvol.transport.network.bundle import thin_bundle
from fedvol.transport.network.fleet_node import FleetNode, NodeTiming
from fedvol.types import SiteId


class Link:
    """A connection that loses its first try to bring an answer."""

    def __init__(self, message: Message, stop: threading.Event) -> None:
        self.messages = [message]
        self.stop = stop
        self.pushed: list[Message] = []
        self.tries = 0

    def activate(self) -> int:
        return 7

    def deactivate(self, node: int) -> None:
        pass

    def heartbeat(self, node: int) -> bool:
        return True

    def bundle_of(self, node: int, run: int) -> str:
        return thin_bundle().digest

    def pull(self, node: int) -> Message | None:
        return self.messages.pop() if self.messages else None

    def push(self, node: int, answer: Message, *, seconds: float) -> None:
        self.tries += 1
        if self.tries == 1:
            raise LinkDownError("server", "it is away", "Wait.")
        self.pushed.append(answer)
        self.stop.set()


class GoneMeanwhile:
    """The first try may leave, and no other."""

    def __init__(self) -> None:
        self.asked, self.failure = 0, AllDepart().failure

    def cleared(self, answer: Message, *, to: Message) -> Message:
        self.asked += 1
        return answer if self.asked == 1 else self.failure(to, LinkDownError("x", "gone", "Go."))


def test_an_answer_whose_approval_went_while_the_link_was_down(tmp_path: Path) -> None:
    content = RecordDict({"said": ConfigRecord({"secret": 1})})
    set_task_identity(run=1, node=7)
    message = Message(RecordDict(), 7, "train.finetune")
    stop = threading.Event()
    link, events = Link(message, stop), Events()
    node = FleetNode(
        link,  # type: ignore[arg-type]
        site=SiteId("a"),
        state=tmp_path / "node",
        timing=NodeTiming(heartbeat_s=10, poll_s=0.01, retry_s=0.01),
        observer=events,
        departures=GoneMeanwhile(),
    )
    node.serve(lambda asked, context: Message(content, reply_to=asked), stop=stop)
    (answer,) = link.pushed
    assert answer.has_error()
    assert events.named("answer.kept") == [{"site": "a"}]


class Refusing(Link):
    """A server that takes no large answer."""

    def push(self, node: int, answer: Message, *, seconds: float) -> None:
        if not answer.has_error():
            raise MessageRefusedError("server", "it does not take a message (413)", "Go on.")
        self.pushed.append(answer)
        self.stop.set()


def test_an_answer_that_the_server_does_not_take_is_told_as_a_failure(tmp_path: Path) -> None:
    set_task_identity(run=1, node=7)
    stop = threading.Event()
    link, events = Refusing(Message(RecordDict(), 7, "train.finetune"), stop), Events()
    node = FleetNode(
        link,  # type: ignore[arg-type]
        site=SiteId("a"),
        state=tmp_path / "node",
        timing=NodeTiming(heartbeat_s=10, poll_s=0.01, retry_s=0.01),
        observer=events,
        departures=AllDepart(),
    )
    node.serve(lambda asked, context: Message(RecordDict(), reply_to=asked), stop=stop)
    (answer,) = link.pushed
    assert answer.has_error()
    assert [one["code"] for one in events.named("answer.refused")] == [MessageRefusedError.code]


class StrangeRun(Link):
    """The run's app bundle, which holds code, is not fedvol's own."""

    def bundle_of(self, node: int, run: int) -> str:
        return "0" * 64


class Failures(AllDepart):
    """Hears why there is no answer."""

    def __init__(self) -> None:
        self.errors: list[FedvolError] = []

    def failure(self, to: Message, error: FedvolError) -> Message:
        self.errors.append(error)
        return super().failure(to, error)


def test_a_run_with_another_app_bundle_is_refused_by_name_and_never_answered(
    tmp_path: Path,
) -> None:
    set_task_identity(run=1, node=7)
    stop = threading.Event()
    link, events = StrangeRun(Message(RecordDict(), 7, "train.finetune"), stop), Events()
    departures = Failures()
    node = FleetNode(
        link,  # type: ignore[arg-type]
        site=SiteId("a"),
        state=tmp_path / "node",
        timing=NodeTiming(heartbeat_s=10, poll_s=0.01, retry_s=0.01),
        observer=events,
        departures=departures,
    )
    answered: list[Message] = []

    def app(asked: Message, context: object) -> Message:
        answered.append(asked)
        return Message(RecordDict(), reply_to=asked)

    node.serve(app, stop=stop)
    assert answered == [], "nothing of it is run"
    (error,) = departures.errors
    assert isinstance(error, StrangeBundleError)
    assert "app bundle" in str(error)
    (answer,) = link.pushed
    assert answer.has_error()
    assert events.named("message.refused") == [{"site": "a", "code": StrangeBundleError.code}]
