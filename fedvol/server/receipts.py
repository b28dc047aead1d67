"""Receipts: the server's signed word that a site's contribution is in a closed round."""

from collections.abc import Callable
from datetime import UTC, datetime

from fedvol.audit import UNNAMED, AuditSink, Receipt
from fedvol.federation import RoundState
from fedvol.identity import IdentityKey, Tag, sign_body, write_moment
from fedvol.plan import digest_bytes
from fedvol.server.history import contributions
from fedvol.store import ContributionKey, FederationStore, RunStore
from fedvol.types import RunId


def _utc_now() -> datetime:
    return datetime.now(UTC)


def issue_receipts(
    run: RunId,
    *,
    runs: RunStore,
    store: FederationStore,
    audit: AuditSink,
    key: IdentityKey,
    now: Callable[[], datetime] = _utc_now,
) -> int:
    """Sign what no receipt was given for yet; after a crash too, because the record decides.

    Args:
        run: The run.
        runs: Its record.
        store: Receipts, and which signed answers brought the contributions.
        audit: Where each is written down, before it is given.
        key: The server's identity.
        now: Gives the time, UTC.

    Returns:
        How many were signed.

    Raises:
        AuditError: One cannot be written down.
    """
    held = store.agreements.receipts(run)
    record = runs.run(run)
    if record is None:
        return 0
    signed = 0
    for closed in runs.rounds(run):
        if closed.state is not RoundState.CLOSED:
            continue
        for site in contributions(closed):
            name = ContributionKey(run=run, stage=closed.stage, round=closed.index, site=site.site)
            if name in held:
                continue
            answer = store.agreements.answer(name)
            body = sign_body(
                key,
                Tag.RECEIPT,
                {
                    "run": run,
                    "plan": record.plan_digest,
                    "stage": closed.stage,
                    "round": closed.index,
                    "attempt": closed.attempt,
                    "site": site.site,
                    "answer": answer.digest if answer else None,
                    "update": answer.tensors if answer else None,
                    "global": closed.aggregate,
                    "time": write_moment(now()),
                },
            )
            audit.append(
                Receipt(
                    site=site.site,
                    run=run,
                    stage=closed.stage,
                    round=closed.index,
                    message=answer.digest if answer else UNNAMED,
                    receipt=digest_bytes(body),
                )
            )
            store.agreements.put_receipt(name, body)
            signed += 1
    return signed
