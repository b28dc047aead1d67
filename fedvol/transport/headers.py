"""What a message says in words: the JSON header of a request, and of an answer.

Where tensors are in the message the header stands alone; over a network it also names the file
that they travel in, and is signed.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from fedvol.config.base import Section
from fedvol.errors import FedvolError, MessageError, SiteFailedError, classes_by_code
from fedvol.federation import Action, Reply, Request
from fedvol.privacy import Contribution
from fedvol.types import Digest, Json, RunId, SiteId, State

DigestText = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class TensorFile(Section):
    """The file that a message's tensors travel in."""

    digest: DigestText
    """SHA-256 of its content."""
    size_bytes: Annotated[int, Field(ge=0, le=16 << 30)]
    """Its size."""


class _Header(Section):
    model_config = ConfigDict(use_attribute_docstrings=False)

    version: Literal[1] = 1
    run: str
    plan: str
    stage: int
    round: int
    site: str
    action: Action
    tensors: TensorFile | None = None


class RequestHeader(_Header):
    """A request without its tensors."""

    kind: Literal["request"] = "request"
    arguments: dict[str, JsonValue]
    limit_s: float

    def request(self, state: State) -> Request:
        """The request, with its tensors."""
        return Request(
            run=RunId(self.run),
            plan=Digest(self.plan),
            stage=self.stage,
            round=self.round,
            site=SiteId(self.site),
            action=self.action,
            state=state,
            arguments=dict[str, Json](self.arguments),
            limit_s=self.limit_s,
        )


class ReplyHeader(_Header):
    """An answer without its tensors."""

    kind: Literal["reply"] = "reply"
    code: str
    title: str
    values: dict[str, JsonValue]
    request: str = ""
    """Digest of the request's header, where it is signed."""

    def reply(self, state: State, *, request: Request, bytes_up: int, bytes_down: int) -> Reply:
        """The answer, with its tensors.

        Text of the other side is not passed on: a code that is known stands with our own words.

        Raises:
            MessageError: It answers another question.
        """
        asked = request_key(request)
        answered = (self.run, self.plan, self.stage, self.round, self.site, self.action)
        if asked != answered:
            raise malformed("the reply answers another question than was asked")
        code, title = _known_words(self.code)
        return Reply(
            run=request.run,
            stage=request.stage,
            round=request.round,
            site=request.site,
            action=request.action,
            code=code,
            title=title,
            tensors=state,
            values=dict[str, Json](self.values),
            bytes_up=bytes_up,
            bytes_down=bytes_down,
        )


def request_header(request: Request, *, tensors: TensorFile | None = None) -> RequestHeader:
    """The header of a request."""
    return RequestHeader(
        run=request.run,
        plan=request.plan,
        stage=request.stage,
        round=request.round,
        site=request.site,
        action=request.action,
        arguments=dict(request.arguments),
        limit_s=request.limit_s,
        tensors=tensors,
    )


def reply_header(
    contribution: Contribution,
    *,
    request: Request,
    tensors: TensorFile | None = None,
    request_digest: str = "",
) -> ReplyHeader:
    """The header of an answer. Nothing but a `Contribution` has one: it went through the gate."""
    if type(contribution) is not Contribution:
        raise TypeError("only a contribution leaves a site")
    return ReplyHeader(
        run=request.run,
        plan=request.plan,
        stage=request.stage,
        round=request.round,
        site=request.site,
        action=request.action,
        code=contribution.code,
        title=contribution.title,
        values=dict(contribution.values),
        tensors=tensors,
        request=request_digest,
    )


def request_key(request: Request) -> tuple[str, str, int, int, str, Action]:
    """What a question is told from another one by."""
    return (
        request.run,
        request.plan,
        request.stage,
        request.round,
        request.site,
        request.action,
    )


def malformed(what: str) -> MessageError:
    """A message that cannot be understood."""
    return MessageError("message", what, "Bring server and site to one fedvol version.")


def _known_words(code: str) -> tuple[str, str]:
    """A code we know with our own words for it; text from the other side is not passed on."""
    if not code:
        return "", ""
    kind = _classes().get(code, SiteFailedError)
    return kind.code, kind.title


@cache
def _classes() -> Mapping[str, type[FedvolError]]:
    return classes_by_code()
