"""Judging: sites are asked what a model is worth on their validation or test cases."""

from collections.abc import Callable, Collection, Mapping, Sequence

from fedvol.errors import QuorumError
from fedvol.federation import (
    Action,
    HealthReport,
    Link,
    MetricSums,
    Reply,
    Request,
    Stat,
    check_evaluation,
    merge,
)
from fedvol.plan import class_names, metric_keys
from fedvol.server.asking import Missing, ask_each
from fedvol.server.history import last_taken
from fedvol.server.stage_run import StageRun
from fedvol.store import ALL_SITES, RoundRecord
from fedvol.types import Digest, SiteId, State


def validate(
    stage: StageRun, link: Link, record: RoundRecord, *, health: Mapping[SiteId, HealthReport]
) -> None:
    """Have every site judge a round's model on its validation cases, and write the figures.

    Where norm layers stay at their site, one that has none of its own yet would judge the model
    with those of the start, and is not asked.

    Args:
        stage: The stage.
        link: To the sites.
        record: The round, in state `summed`.
        health: Who is asked, and how many validation cases each has.
    """
    assert record.aggregate is not None
    unable = _without_own_norms(stage, record, health=health)
    sites = [s for s, report in health.items() if report.validation_cases and s not in unable]
    state = stage.read_global(record.aggregate)
    parts = _ask_for_sums(
        stage,
        link,
        _requests(stage, sites, action=Action.VALIDATE, round_index=record.index, state=state),
        keys=stage.validation_keys(record.index),
    )
    stats = {site: _stats(part) for site, part in parts.items()}
    if parts:
        stats[ALL_SITES] = _stats(merge([parts[site] for site in sorted(parts)]))
    stage.store.put_metrics(record.key, stats)


def judge_release(
    stage: StageRun,
    link: Link,
    *,
    release: Digest,
    round_index: int,
    model: str,
    health: Mapping[SiteId, HealthReport],
    judges: Collection[SiteId],
) -> dict[SiteId, MetricSums]:
    """Have every site judge a stage's model on its test cases; answers already held are kept.

    Args:
        stage: The stage.
        link: To the sites.
        release: Digest of the released weights.
        round_index: Round whose model is judged.
        model: What the figures are kept under.
        health: What each site said of its data.
        judges: Sites whose figures are wanted.

    Raises:
        QuorumError: A site with test cases did not answer; figures over a subset are refused.
    """
    where = f"run {stage.run}"
    evaluation = stage.plan.study.evaluation
    held = stage.store.evaluations(stage.run, model=model)
    absent = sorted(set(judges) - health.keys() - held.keys())
    if absent:
        raise QuorumError(
            where,
            f"no test figures from {', '.join(absent)}, which did not answer",
            "Bring these sites back, then resume the run.",
        )
    missing = [site for site, report in health.items() if report.test_cases and site not in held]
    with stage.blobs.open(release) as file:
        state = file.read_all()
    parts = _ask_for_sums(
        stage,
        link,
        _requests(stage, missing, action=Action.TEST, round_index=round_index, state=state),
        keys=metric_keys(evaluation.metrics, class_names(stage.plan.study.data)),
        replicates=evaluation.bootstrap_replicates,
        on_part=lambda site, sums: stage.store.put_evaluation(
            stage.run, model=model, site=site, sums=sums
        ),
    )
    silent = sorted(set(missing) - parts.keys())
    if silent:
        raise QuorumError(
            where,
            f"no test figures from {', '.join(silent)}",
            "Look at these sites, then resume the run.",
        )
    return {**held, **parts}


def _without_own_norms(
    stage: StageRun, record: RoundRecord, *, health: Mapping[SiteId, HealthReport]
) -> set[SiteId]:
    """Sites that need norm layers of their own and contributed to no round up to this one."""
    if stage.strategy is None or not stage.exchange.local:
        return set()
    return set(health) - last_taken((*stage.closed(before=record.index), record)).keys()


def _requests(
    stage: StageRun, sites: Sequence[SiteId], *, action: Action, round_index: int, state: State
) -> list[Request]:
    return [
        stage.request(
            site,
            action,
            round_index=round_index,
            state=state,
            arguments=stage.judging_arguments,
            limit_s=stage.plan.study.federation.evaluate_limit_s,
        )
        for site in sites
    ]


def _ask_for_sums(
    stage: StageRun,
    link: Link,
    requests: Sequence[Request],
    *,
    keys: Sequence[str],
    replicates: int = 0,
    on_part: Callable[[SiteId, MetricSums], None] | None = None,
) -> dict[SiteId, MetricSums]:
    """Sites that refuse or stay silent are named as events, and missing."""

    def check(reply: Reply, request: Request) -> MetricSums:
        return check_evaluation(reply, request=request, keys=keys, replicates=replicates)[1]

    parts: dict[SiteId, MetricSums] = {}
    for request, found in ask_each(link, requests, check=check):
        if isinstance(found, Missing):
            found.tell(stage.observer, request=request)
            continue
        parts[request.site] = found
        if on_part is not None:
            on_part(request.site, found)
    return parts


def _stats(sums: MetricSums) -> dict[str, Stat]:
    return {key: sums.stat(key) for key in sums.keys}
