"""What a stage gives away: its best round's global state, with the mean of what stayed local."""

from collections.abc import Mapping

from fedvol.federation import HealthReport, Link
from fedvol.server.norms import mean_norms
from fedvol.server.stage_run import StageRun
from fedvol.store import CheckpointKind, RoundRecord
from fedvol.types import Digest, SiteId, State


def put_release(
    stage: StageRun, link: Link, best: RoundRecord, *, health: Mapping[SiteId, HealthReport]
) -> Digest:
    """Write what a run gives away, once; a release that is there already is kept.

    Args:
        stage: The stage.
        link: To the sites, which are asked for their local tensors where there are any.
        best: The round that is released.
        health: Who is asked, and how many cases each trained on.

    Raises:
        QuorumError: Fewer sites returned their local tensors than the study's minimum.
    """
    if held := _held(stage, CheckpointKind.RELEASE):
        return held
    assert best.aggregate is not None
    # Companions, such as a momentum, lie in the same file and are nobody's but ours.
    state = stage.read_global(best.aggregate)
    if local := stage.exchange.local:
        norms = mean_norms(stage, link, round_index=best.index, local=local, health=health)
        state = {**state, **norms}
    names = [spec.name for spec in stage.plan.network.tensors if spec.name in state]
    return _put(
        stage,
        best,
        kind=CheckpointKind.RELEASE,
        state={name: state[name] for name in names},
        metadata=stage.metadata(best.index),
    )


def put_pretrained(stage: StageRun, best: RoundRecord) -> Digest:
    """Write what a pretrain stage gives away, once, with its record for others in the header.

    What stayed at the sites is not there to be given.

    Args:
        stage: The pretrain stage.
        best: The round that finetuning starts from.
    """
    if held := _held(stage, CheckpointKind.PRETRAINED):
        return held
    assert best.aggregate is not None
    assert stage.plan.pretraining is not None
    return _put(
        stage,
        best,
        kind=CheckpointKind.PRETRAINED,
        state=stage.read_global(best.aggregate),
        metadata={**stage.metadata(best.index), **stage.plan.pretraining.record.metadata()},
    )


def _held(stage: StageRun, kind: CheckpointKind) -> Digest | None:
    """What the stage gave away before; None before it did."""
    for checkpoint in stage.store.checkpoints(stage.run, kind=kind):
        if checkpoint.stage == stage.stage:
            return checkpoint.digest
    return None


def _put(
    stage: StageRun,
    best: RoundRecord,
    *,
    kind: CheckpointKind,
    state: State,
    metadata: Mapping[str, str],
) -> Digest:
    digest = stage.blobs.put(state.items(), metadata=metadata)
    stage.store.add_checkpoint(
        stage.run, stage=stage.stage, round=best.index, kind=kind, digest=digest
    )
    return digest
