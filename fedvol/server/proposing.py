"""Putting a run to its sites: what they are given, in words and in full, signed by the server."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import cast

import numpy as np
from pydantic import ValidationError

from fedvol.config.strategy import Pretrain
from fedvol.errors import MessageError, RunRequestError
from fedvol.federation import plan_exchange
from fedvol.identity import IdentityKey, SignedBody, Tag, sign_body, write_moment
from fedvol.plan import Plan, Proposal
from fedvol.server.server_folder import ServerFolder
from fedvol.store import ProposalRecord, StateFile
from fedvol.types import Json, RunId, SiteId

_MIB = 1 << 20


def run_proposal(
    run: RunId, *, plan: Plan, key: IdentityKey, operator: str, now: datetime
) -> ProposalRecord:
    """The proposal of a run.

    Args:
        run: Its name.
        plan: What it does.
        key: The server's identity.
        operator: Name of the user who proposes it.
        now: The time, UTC.
    """
    return _record(
        "run",
        run,
        content=plan,
        words=proposal_words(plan),
        key=key,
        operator=operator,
        now=now,
    )


def fingerprint_proposal(
    job: RunId, *, asked: Proposal, key: IdentityKey, operator: str, now: datetime
) -> ProposalRecord:
    """The proposal of a fingerprint job.

    Args:
        job: Its name.
        asked: The study as written, and who is asked.
        key: The server's identity.
        operator: Name of the user who proposes it.
        now: The time, UTC.
    """
    words = (
        f"Study {asked.study.name}: {asked.study.purpose}\n"
        f"It leaves {len(asked.study.open_keys)} values to the sites' data. Before there is a "
        "plan, each site is asked once to count its training cases: sums and histograms over all "
        "of them leave, above the site's own floor. Nothing is trained. The plan that follows is "
        "put to you by itself."
    )
    return _record(
        "fingerprint", job, content=asked, words=words, key=key, operator=operator, now=now
    )


def fingerprint_asked(proposal: ProposalRecord) -> Proposal:
    """What sites are asked by a fingerprint job that this server proposed.

    Raises:
        MessageError: Another version of fedvol proposed it.
    """
    where = f"fingerprint {proposal.id}"
    payload = json.loads(SignedBody.parse(proposal.content, where=where).payload)
    try:
        return Proposal.model_validate_json(json.dumps(payload["plan"]))
    except ValidationError as error:
        raise MessageError(
            where, "another version of fedvol proposed it", "Propose it anew."
        ) from error


def _record(
    kind: str,
    run: RunId,
    *,
    content: Plan | Proposal,
    words: str,
    key: IdentityKey,
    operator: str,
    now: datetime,
) -> ProposalRecord:
    signed = sign_body(
        key,
        Tag.PROPOSAL,
        {
            "id": run,
            "kind": kind,
            "run": run,
            "digest": content.digest,
            "plan": cast("Json", content.model_dump(mode="json")),
            "words": words,
            "operator": operator,
            "created": write_moment(now),
        },
    )
    return ProposalRecord(
        id=run,
        kind=kind,
        run=run,
        plan_digest=content.digest,
        sites=tuple(SiteId(site) for site in content.sites),
        content=signed,
        created=now,
        created_by=operator,
    )


def proposal_words(plan: Plan) -> str:
    """What a run does and what leaves a site, in words that people at a hospital can judge."""
    study = plan.study
    lines = [
        f"Study {study.name}: {study.purpose}",
        f"Sites: {', '.join(plan.sites)}; at least {study.federation.min_sites} must take part.",
    ]
    if plan.start is not None:
        lines.append(
            f"It begins with weights that {plan.start.record.task} trained before this run; their "
            f"file has the digest {plan.start.digest[:12]}."
        )
    for index, stage in enumerate(study.stages):
        exchange = plan_exchange(plan, index)
        up_mib = sum(one.size * np.dtype(one.dtype).itemsize for one in exchange.up) / _MIB
        leaves = (
            f"an update of the network ({up_mib:.1f} MiB) leaves each time"
            if exchange.up
            else "the trained model stays at the site"
        )
        if isinstance(stage, Pretrain):
            lines.append(
                f"Stage {index + 1} learns {stage.task.kind} from all training cases, labelled or "
                f"not, and is judged on all validation cases; what travels: {stage.exchange}."
            )
        lines.append(
            f"Stage {index + 1}, {stage.kind}: {stage.rounds} rounds of {stage.steps_per_round} "
            f"training steps; {leaves}, with counts, the mean loss and seconds of training."
        )
    lines.append(
        "After each round the network is judged on the site's validation cases, at the end on its "
        "test cases; sums over cases leave, no image and no single case."
    )
    if plan.planning is not None:
        lines.append(
            f"{len(plan.planning.choices)} values of the plan follow from the fingerprints of "
            "these sites."
        )
    lines.append("No differential privacy and no secure summation: the server sees each update.")
    return "\n".join(lines)


def keep_initial(folder: ServerFolder, run: RunId, *, plan: Plan) -> None:
    """Make sure that a run's initial weights are here, and are those of its plan.

    Raises:
        RunRequestError: They were not brought.
        PlanMismatchError: They are others.
        BlobDamagedError: The file is damaged.
    """
    path = folder.initial(run)
    if not path.is_file():
        raise RunRequestError(
            f"run {run}", "its initial weights were not brought", "Propose it again."
        )
    with StateFile(path) as file:
        plan.require_initial(file.read_all(), where=f"run {run}")


def require_proposable(plan: Plan | Proposal, *, active: Sequence[SiteId]) -> None:
    """Refuse a plan, or a fingerprint job, whose sites could never begin.

    Raises:
        RunRequestError: A site is not active, or there are fewer than the study's minimum.
    """
    strangers = [site for site in plan.sites if site not in active]
    if strangers:
        raise RunRequestError(
            "sites of the plan",
            f"not active: {', '.join(strangers)}",
            "Name active sites: fedvol site-admin list.",
        )
    minimum = plan.study.federation.min_sites
    if len(plan.sites) < minimum:
        raise RunRequestError(
            "sites of the plan",
            f"{len(plan.sites)} sites, and the study wants at least {minimum}",
            "Name more sites, or lower federation.min_sites.",
        )
