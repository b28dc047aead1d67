"""The release of a stage: its best round's global state, with the mean of what stayed local."""

from collections.abc import Mapping

from fedvol.federation import HealthReport, Link
from fedvol.server.norms import mean_norms
from fedvol.server.stage_run import StageRun
from fedvol.store import CheckpointKind, RoundRecord
from fedvol.types import Digest, SiteId


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
    releases = stage.store.checkpoints(stage.run, kind=CheckpointKind.RELEASE)
    for release in releases:
        if release.stage == stage.stage:
            return release.digest
    assert best.aggregate is not None
    # Companions, such as a momentum, lie in the same file and are nobody's but ours.
    state = stage.read_global(best.aggregate)
    if local := stage.exchange.local:
        norms = mean_norms(stage, link, round_index=best.index, local=local, health=health)
        state = {**state, **norms}
    names = [spec.name for spec in stage.plan.network.tensors if spec.name in state]
    digest = stage.blobs.put(
        [(name, state[name]) for name in names], metadata=stage.metadata(best.index)
    )
    stage.store.add_checkpoint(
        stage.run, stage=stage.stage, round=best.index, kind=CheckpointKind.RELEASE, digest=digest
    )
    return digest
