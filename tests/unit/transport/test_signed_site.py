"""What a site computed is brought once the link is up again, unless it changed its mind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from audit_logs import CONTENT, Noted

from fedvol.errors import ConsentMissingError, DiskFullError, FedvolError, LinkDownError
from fedvol.federation import Action, Request
from fedvol.identity import IdentityKey, Tag
from fedvol.privacy import Contribution
from fedvol.privacy.contribution import Kind, sealed
from fedvol.transport import VirtualClock
from fedvol.transport.engine import RecordDict
from fedvol.transport.headers import ReplyHeader, TensorFile, request_header
from fedvol.transport.network.outbox import Outbox
from fedvol.transport.network.signed_records import (
    digest_of,
    from_records,
    open_header,
    sign_header,
    to_records,
)
from fedvol.transport.network.signed_site import SignedSite
from fedvol.types import Digest, RunId, SiteId

SITE, SERVER, SITE_KEY = SiteId("a"), IdentityKey.generate(), IdentityKey.generate()
REQUEST = Request(
    run=RunId("r"),
    plan=Digest("1" * 64),
    stage=0,
    round=1,
    site=SITE,
    action=Action.FINETUNE,
    state={},
    arguments={},
    limit_s=60.0,
)


@dataclass
class Blobs:
    """A link that is down for some tries."""

    down: int = 0
    on_down: Callable[[], None] = lambda: None
    brought: list[Digest] = field(default_factory=list)

    def fetch(self, digest: Digest, *, size_bytes: int, target: Path) -> None:
        raise DiskFullError(str(target), "no space left on the disk", "Free some.")

    def bring(self, path: Path, *, digest: Digest) -> None:
        if self.down:
            self.down -= 1
            self.on_down()
            raise LinkDownError("server", "it is away", "Wait.")
        self.brought.append(digest)


class Agreement:
    holds = True

    def __call__(self, request: Request) -> bool:
        return self.holds


def carrier(folder: Path, blobs: Blobs, agreement: Agreement) -> SignedSite:
    return SignedSite(
        SITE_KEY,
        server=SERVER.public,
        blobs=blobs,
        outbox=Outbox(folder / "outbox"),
        allows=agreement,
        audit=Noted(),
        refuses=refused,
        incoming=folder / "incoming",
        clock=VirtualClock(),
    )


def refused(request: Request, error: FedvolError) -> Contribution:
    return sealed(
        Kind.REFUSAL, values={}, tensors={}, code=error.code, title=error.title, digest=CONTENT
    )


def asked(tensors: TensorFile | None = None) -> RecordDict:
    return to_records(sign_header(SERVER, Tag.REQUEST, request_header(REQUEST, tensors=tensors)))


def trained(site: SiteId, request: Request) -> Contribution:
    tensors = {"w": np.ones(3, np.float32)}
    return sealed(Kind.UPDATE, values={"steps": 3}, tensors=tensors, digest=CONTENT)


def test_brought_once_the_link_is_up(tmp_path: Path) -> None:
    blobs = Blobs(down=2)
    answer = carrier(tmp_path, blobs, Agreement()).answer(
        trained, asked(), site=SITE, action="train.finetune"
    )
    assert len(blobs.brought) == 1
    said = open_header(
        from_records(answer), Tag.REPLY, ReplyHeader, signer=SITE_KEY.public, where="reply"
    )
    assert said.tensors is not None
    assert said.tensors.digest == blobs.brought[0]


def test_kept_if_the_approval_goes_while_the_link_is_down(tmp_path: Path) -> None:
    agreement = Agreement()

    def withdraw() -> None:
        agreement.holds = False

    blobs = Blobs(down=1, on_down=withdraw)
    with pytest.raises(ConsentMissingError):
        carrier(tmp_path, blobs, agreement).answer(
            trained, asked(), site=SITE, action="train.finetune"
        )
    assert blobs.brought == []


def test_an_answer_that_was_kept_needs_the_approval_too(tmp_path: Path) -> None:
    agreement, blobs = Agreement(), Blobs()
    site = carrier(tmp_path, blobs, agreement)
    site.answer(trained, asked(), site=SITE, action="train.finetune")
    agreement.holds = False

    def refused(site: SiteId, request: Request) -> Contribution:
        return sealed(
            Kind.REFUSAL,
            values={},
            tensors={},
            digest=CONTENT,
            code=ConsentMissingError.code,
            title="no consent",
        )

    answer = site.answer(refused, asked(), site=SITE, action="train.finetune")
    said = open_header(
        from_records(answer), Tag.REPLY, ReplyHeader, signer=SITE_KEY.public, where="reply"
    )
    assert (said.code, said.tensors, len(blobs.brought)) == (ConsentMissingError.code, None, 1)


def test_a_disk_without_space_for_the_weights_is_told(tmp_path: Path) -> None:
    tensors = TensorFile(digest="2" * 64, size_bytes=5)
    assert code_of(carrier(tmp_path, Blobs(), Agreement()), asked(tensors)) == "FV-STORE-004"


def test_a_disk_without_space_for_the_answer_is_told_and_thought_over(tmp_path: Path) -> None:
    site, question = carrier(tmp_path, Blobs(), Agreement()), asked()
    in_the_way = Outbox(tmp_path / "outbox").tensors(digest_of(from_records(question)))
    in_the_way.mkdir(parents=True)
    assert code_of(site, question).startswith("FV-STORE-")
    in_the_way.rmdir()
    assert code_of(site, question) == ""


def code_of(site: SignedSite, question: RecordDict) -> str:
    """The code under which a site's answer is signed."""
    answer = site.answer(trained, question, site=SITE, action="train.finetune")
    body = from_records(answer)
    return open_header(body, Tag.REPLY, ReplyHeader, signer=SITE_KEY.public, where="reply").code
