"""What a site computed is brought once the link is up again, unless it changed its mind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from agreements import Agreement
from audit_logs import CONTENT, Noted

from fedvol.errors import (
    ConsentMissingError,
    DiskFullError,
    FedvolError,
    LinkDownError,
    PolicyRefusedError,
)
from fedvol.federation import Action, Request
from fedvol.identity import IdentityKey, Tag
from fedvol.privacy import Contribution
from fedvol.privacy.contribution import Kind, sealed
from fedvol.transport import VirtualClock
from fedvol.transport.carriers import Handle
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
    """A link that is down for some tries; an answer goes in two pieces."""

    down: int = 0
    on_down: Callable[[], None] = lambda: None
    on_piece: Callable[[], None] = lambda: None
    pieces: int = 0
    brought: list[Digest] = field(default_factory=list)

    def fetch(self, digest: Digest, *, size_bytes: int, target: Path) -> None:
        raise DiskFullError(str(target), "no space left on the disk", "Free some.")

    def bring(self, path: Path, *, digest: Digest, before_piece: Callable[[], None]) -> None:
        before_piece()
        if self.down:
            self.down -= 1
            self.on_down()
            raise LinkDownError("server", "it is away", "Wait.")
        for _ in range(2):
            before_piece()
            self.pieces += 1
            self.on_piece()
        self.brought.append(digest)


def carrier(folder: Path, blobs: Blobs, agreement: Agreement) -> SignedSite:
    return SignedSite(
        SITE_KEY,
        server=SERVER.public,
        blobs=blobs,
        outbox=folder / "outbox",
        agreement=agreement,
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


@pytest.mark.parametrize("moment", ["on_down", "on_piece"])
@pytest.mark.parametrize(
    ("change", "error"),
    [(Agreement.withdraw, ConsentMissingError), (Agreement.tighten, PolicyRefusedError)],
)
def test_kept_if_the_site_changes_its_mind_before_all_of_it_left(
    tmp_path: Path, moment: str, change: Callable[[Agreement], None], error: type[FedvolError]
) -> None:
    agreement = Agreement()
    blobs = Blobs(down=1)
    setattr(blobs, moment, lambda: change(agreement))
    assert code_of(carrier(tmp_path, blobs, agreement), asked()) == error.code
    assert blobs.brought == []
    assert blobs.pieces == (moment == "on_piece")


@pytest.mark.parametrize("change", [Agreement.withdraw, Agreement.tighten])
def test_an_answer_that_was_kept_leaves_under_its_own_terms_alone(
    tmp_path: Path, change: Callable[[Agreement], None]
) -> None:
    agreement, blobs = Agreement(), Blobs()
    site = carrier(tmp_path, blobs, agreement)
    assert code_of(site, asked()) == ""
    change(agreement)
    if agreement.now is None:
        assert code_of(site, asked(), handle=never) == ConsentMissingError.code
    else:
        with pytest.raises(AssertionError, match="asked anew"):
            code_of(site, asked(), handle=never)
    assert len(blobs.brought) == 1


def test_what_is_not_agreed_to_is_refused_before_its_weights_are_fetched(tmp_path: Path) -> None:
    agreement = Agreement()
    agreement.withdraw()
    site = carrier(tmp_path, Blobs(), agreement)
    tensors = TensorFile(digest="2" * 64, size_bytes=5)
    assert code_of(site, asked(tensors), handle=never) == ConsentMissingError.code


def never(site: SiteId, request: Request) -> Contribution:
    raise AssertionError("the site was asked anew")


def test_a_disk_without_space_for_the_weights_is_told(tmp_path: Path) -> None:
    tensors = TensorFile(digest="2" * 64, size_bytes=5)
    assert code_of(carrier(tmp_path, Blobs(), Agreement()), asked(tensors)) == "FV-STORE-004"


def test_a_disk_without_space_for_the_answer_is_told_and_thought_over(tmp_path: Path) -> None:
    site, question = carrier(tmp_path, Blobs(), Agreement()), asked()
    terms = Agreement().terms(REQUEST)
    outbox = Outbox.under(tmp_path / "outbox", run=REQUEST.run, terms=terms)
    in_the_way = outbox.tensors(digest_of(from_records(question)))
    in_the_way.mkdir(parents=True)
    assert code_of(site, question).startswith("FV-STORE-")
    in_the_way.rmdir()
    assert code_of(site, question) == ""


def code_of(site: SignedSite, question: RecordDict, *, handle: Handle = trained) -> str:
    """The code under which a site's answer is signed."""
    answer = site.answer(handle, question, site=SITE, action="train.finetune")
    body = from_records(answer)
    return open_header(body, Tag.REPLY, ReplyHeader, signer=SITE_KEY.public, where="reply").code
