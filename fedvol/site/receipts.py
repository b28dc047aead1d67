"""Receipts: the server's signed word that a contribution was taken into a closed round."""

import json
from typing import Annotated

from pydantic import Field, ValidationError

from fedvol.audit import UNNAMED, AuditSink, Receipt
from fedvol.config.base import Section
from fedvol.errors import MessageError
from fedvol.identity import Moment, PublicKey, Tag, open_body
from fedvol.plan import digest_bytes
from fedvol.store import ReceiptRecord, SiteStore
from fedvol.types import Digest, RunId

_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Payload(Section):
    run: str
    plan: _Digest
    stage: Annotated[int, Field(ge=0)]
    round: Annotated[int, Field(ge=0)]
    attempt: Annotated[int, Field(ge=1)]
    site: str
    answer: _Digest | None
    update: _Digest | None
    global_: Annotated[_Digest | None, Field(alias="global")]
    time: Moment


def take_receipt(
    store: SiteStore, text: str, *, audit: AuditSink, server: PublicKey, run: RunId, site: str
) -> bool:
    """Keep a receipt that is the server's, for this site and run; whether it is new.

    Args:
        store: Where it is kept.
        text: The signed receipt.
        audit: Where it is written down.
        server: The server's identity, from the roster.
        run: The run that was asked about.
        site: This site.

    Raises:
        SignatureError: Another key signed it.
        MessageError: It is malformed, or for another site or run.
        AuditError: It cannot be written down; then it is not kept, and asked for again.
    """
    where = f"receipt of run {run}"
    payload = open_body(text.encode(), tag=Tag.RECEIPT, signer=server, where=where)
    try:
        said = _Payload.model_validate_json(json.dumps(payload))
    except ValidationError as error:
        raise MessageError(
            where, "it cannot be read by this version", "Compare the versions of both parties."
        ) from error
    if (said.run, said.site) != (run, site):
        raise MessageError(
            where, "it is for another site or run", "Ask the operator what it is for."
        )
    event = Receipt(
        site=site,
        run=run,
        stage=said.stage,
        round=said.round,
        message=UNNAMED if said.answer is None else Digest(said.answer),
        receipt=digest_bytes(text.encode()),
    )
    return store.add_receipt(
        ReceiptRecord(
            run=run,
            stage=said.stage,
            round=said.round,
            attempt=said.attempt,
            answer=said.answer or "",
            signed=text,
        ),
        before_kept=lambda: audit.append(event),
    )
