"""Putting a run to its sites: what they are given, in words and in full, signed by the server."""

from collections.abc import Sequence
from datetime import datetime
from typing import cast

import numpy as np

from fedvol.errors import PlanMismatchError, RunRequestError
from fedvol.federation import stage_exchange
from fedvol.identity import IdentityKey, Tag, sign_body, write_moment
from fedvol.plan import Plan, state_digest
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
    content = sign_body(
        key,
        Tag.PROPOSAL,
        {
            "id": run,
            "kind": "run",
            "run": run,
            "digest": plan.digest,
            "plan": cast("Json", plan.model_dump(mode="json")),
            "words": proposal_words(plan),
            "operator": operator,
            "created": write_moment(now),
        },
    )
    return ProposalRecord(
        id=run,
        kind="run",
        run=run,
        plan_digest=plan.digest,
        sites=tuple(SiteId(site) for site in plan.sites),
        content=content,
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
    for index, stage in enumerate(study.stages):
        exchange = stage_exchange(plan.network, stage=stage)
        up_mib = sum(one.size * np.dtype(one.dtype).itemsize for one in exchange.up) / _MIB
        leaves = (
            f"an update of the network ({up_mib:.1f} MiB) leaves each time"
            if exchange.up
            else "the trained model stays at the site"
        )
        lines.append(
            f"Stage {index + 1}, {stage.kind}: {stage.rounds} rounds of {stage.steps_per_round} "
            f"training steps; {leaves}, with counts, the mean loss and seconds of training."
        )
    lines.append(
        "After each round the network is judged on the site's validation cases, at the end on its "
        "test cases; sums over cases leave, no image and no single case."
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
        digest = state_digest(file.read_all())
    if digest != plan.network.initial_digest:
        raise PlanMismatchError(
            f"run {run}",
            "the initial weights are not those of the plan",
            "Build plan and weights from one study with one version of fedvol.",
        )


def require_proposable(plan: Plan, *, active: Sequence[SiteId]) -> None:
    """Refuse a plan whose sites could never begin.

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
