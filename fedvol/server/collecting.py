"""Collecting a round: every site is asked, every reply checked and written as it arrives."""

from collections.abc import Mapping

from fedvol.errors import ContributionError, NoLabelsError, TimeLimitError
from fedvol.federation import (
    HealthReport,
    Link,
    Reply,
    Request,
    SiteState,
    TrainReport,
    check_update,
)
from fedvol.server.history import participants
from fedvol.server.stage_run import StageRun
from fedvol.store import RoundRecord, SiteRound
from fedvol.types import SiteId


def collect(
    stage: StageRun, link: Link, record: RoundRecord, *, health: Mapping[SiteId, HealthReport]
) -> None:
    """Ask the sites whose part of a round is not done; write what each answered, or its silence.

    A bad reply never ends the run.

    Args:
        stage: The stage.
        link: To the sites.
        record: The round, in state `collecting`.
        health: Who is asked, sorted, and what each said of its data.
    """
    requests = _requests(stage, record, health=health)
    for site in requests:
        stage.store.put_site_round(record.key, SiteRound(site=site, state=SiteState.ASKED))
    for reply in link.ask(list(requests.values())):
        if reply.site in requests:
            cases = stage.cases_of(health[reply.site])
            _take(stage, record, requests[reply.site], reply, cases=cases)
    for site in stage.reread(record).sites:
        if site.state is SiteState.ASKED:
            _silent(stage, record, site.site)


def _requests(
    stage: StageRun, record: RoundRecord, *, health: Mapping[SiteId, HealthReport]
) -> dict[SiteId, Request]:
    done = {site.site for site in participants(record)}
    waiting = [site for site in health if site not in done]
    state = stage.read_down(record)
    arguments = stage.arguments_of(record, waiting)
    return {
        site: stage.request(
            site,
            stage.action,
            round_index=record.index,
            state=state,
            arguments=arguments[site].as_json(),
            limit_s=stage.plan.study.federation.train_limit_s,
        )
        for site in waiting
    }


def _take(
    stage: StageRun, record: RoundRecord, request: Request, reply: Reply, *, cases: int | None
) -> None:
    """Check one reply; spool it, or record why not."""
    if reply.code:
        no_labels = reply.code == NoLabelsError.code
        state = SiteState.NO_LABELS if no_labels else SiteState.REFUSED
        _refused(stage, record, reply, code=reply.code, title=reply.title, state=state)
        return
    try:
        report = check_update(
            reply, request=request, travelling=stage.exchange.up, steps=stage.steps, cases=cases
        )
        weight = stage.strategy.weight(cases=report.cases) if stage.strategy is not None else None
    except ContributionError as error:
        _refused(
            stage,
            record,
            reply,
            code=error.code,
            title=error.title,
            detail=str(error),
            state=SiteState.TRAINED,
        )
        return
    _taken(stage, record, reply, report=report, weight=weight)


def _taken(
    stage: StageRun,
    record: RoundRecord,
    reply: Reply,
    *,
    report: TrainReport,
    weight: float | None,
) -> None:
    travelling = stage.exchange.up
    blob = (
        stage.blobs.put(
            ((spec.name, reply.tensors[spec.name]) for spec in travelling),
            metadata={"run": stage.run, "round": str(record.index), "site": reply.site},
        )
        if travelling
        else None
    )
    state = SiteState.CONTRIBUTED if travelling else SiteState.PERSONALISED
    stage.store.put_site_round(
        record.key,
        SiteRound(
            site=reply.site,
            state=state,
            cases=report.cases,
            steps=report.steps,
            train_seconds=report.train_seconds,
            loss=report.loss,
            bytes_up=reply.bytes_up,
            bytes_down=reply.bytes_down,
            weight=weight,
            blob=blob,
        ),
    )
    stage.observer.event(
        f"site.{state.value}",
        site=reply.site,
        round=record.index,
        cases=report.cases,
        steps=report.steps,
        seconds=report.train_seconds,
        loss=report.loss,
    )


def _refused(
    stage: StageRun,
    record: RoundRecord,
    reply: Reply,
    *,
    code: str,
    title: str,
    state: SiteState,
    detail: str = "",
) -> None:
    stage.store.put_site_round(
        record.key,
        SiteRound(
            site=reply.site,
            state=state,
            code=code,
            title=title,
            bytes_up=reply.bytes_up,
            bytes_down=reply.bytes_down,
        ),
    )
    stage.observer.event(
        "site.refused",
        site=reply.site,
        round=record.index,
        code=code,
        title=title,
        detail=detail,
    )


def _silent(stage: StageRun, record: RoundRecord, site: SiteId) -> None:
    stage.store.put_site_round(
        record.key,
        SiteRound(
            site=site,
            state=SiteState.SILENT,
            code=TimeLimitError.code,
            title=TimeLimitError.title,
        ),
    )
    stage.observer.event("site.silent", site=site, round=record.index)
