"""What leaves of a hospital's answers, decided in the process that brings them to the server."""

from functools import partial
from types import MappingProxyType
from typing import final

from fedvol.audit import AuditSink
from fedvol.client.site_refusals import SiteRefusals
from fedvol.errors import FedvolError, SiteFailedError
from fedvol.federation import Request
from fedvol.identity import IdentityKey, Tag
from fedvol.site import Gate, SiteFolder, current_roster
from fedvol.site.gate import local_now
from fedvol.telemetry import Observer
from fedvol.transport.carriers import require_meant
from fedvol.transport.engine import Message
from fedvol.transport.flower import failed_reply
from fedvol.transport.headers import ReplyHeader, RequestHeader
from fedvol.transport.network.outbox import Outbox
from fedvol.transport.network.signed_answer import sign_answer
from fedvol.transport.network.signed_records import (
    digest_of,
    from_records,
    open_header,
    to_records,
)
from fedvol.types import Digest, RunId, SiteId, State

_NO_TENSORS: State = MappingProxyType({})


@final
class SiteDepartures:
    """Sends an answer only under the terms that it was given under; signs what goes instead.

    Args:
        folder: The site's folder.
        key: The site's identity.
        site: Its name.
        gate: What the site agrees to.
        audit: Where decisions, refusals and their messages are written down.
        observer: Hears of refusals, at the site.
    """

    def __init__(
        self,
        folder: SiteFolder,
        key: IdentityKey,
        *,
        site: SiteId,
        gate: Gate,
        audit: AuditSink,
        observer: Observer,
    ) -> None:
        self._folder = folder
        self._key = key
        self._site = site
        self._gate = gate
        self._audit = audit
        self._observer = observer
        self._refusals = SiteRefusals(folder, site=site, audit=audit, observer=observer)

    def cleared(self, answer: Message, *, to: Message) -> Message:
        """The answer if the site agrees to it at this moment, else a refusal in its place.

        A refusal holds nothing of what was computed, and leaves. A failure of the worker becomes
        the site's own word, so that nobody on the way can make one up.

        Args:
            answer: What the site's worker answered.
            to: What it was asked.
        """
        if answer.has_error():
            failed = SiteFailedError(
                f"site {self._site}", "its worker failed", "See what it wrote before this."
            )
            return self.failure(to, failed)
        said = ReplyHeader.model_validate_json(from_records(answer.content).payload)
        if said.code:
            return answer
        asked = RequestHeader.model_validate_json(from_records(to.content).payload)
        try:
            self._gate.require_under(
                asked.request(_NO_TENSORS),
                is_under=partial(self._is_kept, Digest(said.request), RunId(asked.run)),
            )
        except FedvolError as error:
            return self.failure(to, error)
        return answer

    def failure(self, to: Message, error: FedvolError) -> Message:
        """The site's signed word that it does not answer, and the code why.

        Where it cannot be sure that the server asked, or cannot write it down, it is Flower's own
        error, without a signature.

        Args:
            to: What was asked.
            error: Why there is no answer; told at the site in full.
        """
        try:
            return self._signed_failure(to, error)
        except FedvolError as problem:
            self._observer.event("answer.unsigned", code=problem.code, what=problem.what)
            return failed_reply(to, SiteFailedError.code)

    def _signed_failure(self, to: Message, error: FedvolError) -> Message:
        roster = current_roster(self._folder, now=local_now())
        body = from_records(to.content)
        header = open_header(
            body,
            Tag.REQUEST,
            RequestHeader,
            signer=roster.server.identity,
            where="request of the server",
        )
        request: Request = header.request(_NO_TENSORS)
        require_meant(request, site=self._site, action=to.metadata.message_type)
        answer = sign_answer(
            self._refusals.refuse(request, error),
            key=self._key,
            request=request,
            request_digest=digest_of(body),
            audit=self._audit,
        )
        return Message(to_records(answer), reply_to=to)

    def _is_kept(self, request: Digest, run: RunId, terms: Digest) -> bool:
        return Outbox.is_kept(self._folder.outbox, request, run=run, terms=terms)
