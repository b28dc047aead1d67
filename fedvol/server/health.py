"""Which sites would train now: asked before a run begins, and again of those that were away."""

from collections.abc import Collection, Mapping, Sequence

from fedvol.config.pretext import needed_cases
from fedvol.errors import PlanMismatchError, QuorumError
from fedvol.federation import Action, HealthReport, Link, Reply, Request, check_health
from fedvol.plan import Plan
from fedvol.server.asking import Missing, ask_each
from fedvol.telemetry import Observer
from fedvol.types import RunId, SiteId

LIMIT_S, LIMIT_PER_SITE_S = 120.0, 5.0
"""Seconds that every site has to answer, and more of them for each site that is asked.

An answer takes a site some seconds, and a machine that works for many gives theirs one by one.
"""


def ask_health(
    link: Link, *, run: RunId, plan: Plan, observer: Observer
) -> dict[SiteId, HealthReport]:
    """What each healthy site says of its data, sorted by site; the others are named as events.

    `site.refused` names one that answered otherwise, `site.absent` one that did not answer.

    Raises:
        QuorumError: Fewer sites would train than the study's minimum.
        TransportError: The link is down.
    """
    sites = [SiteId(site) for site in plan.sites]
    health, why_not = _ask(link, sites, run=run, plan=plan, observer=observer)
    minimum = plan.study.federation.min_sites
    if len(health) < minimum:
        words = "; ".join(f"{site}: {reason}" for site, reason in sorted(why_not.items()))
        raise QuorumError(
            f"run {run}",
            f"{len(health)} of at least {minimum} sites would train"
            + (f" ({words})" if words else ""),
            "Mend the sites and resume, or begin a new run with a lower federation.min_sites.",
        )
    return health


def require_cases(health: Mapping[SiteId, HealthReport], *, run: RunId, plan: Plan) -> None:
    """Refuse to pretrain where too few sites could do so, or finetune what comes of it.

    A site whose cases are too few for the task, or of fewer subjects than its floors, tells of
    none; so does one with fewer labelled subjects than its floors of labelled cases.

    Args:
        health: What each healthy site says of its data.
        run: The run.
        plan: Its plan.

    Raises:
        QuorumError: The plan pretrains, and fewer sites than the study's minimum have cases that
            its task can use, or labelled training cases.
    """
    minimum, pretrain = plan.study.federation.min_sites, plan.study.pretrain
    if pretrain is None:
        return
    able, task = _able_to_pretrain(health), pretrain.task
    if len(able) < minimum:
        raise QuorumError(
            f"run {run}",
            f"{len(able)} of at least {minimum} sites could pretrain by {task.kind}, which needs "
            f"{needed_cases(task)} (told of none that serve: {_without(health, able)})",
            "Add cases at more sites and resume, or begin a new run with another pretext task or "
            "a lower federation.min_sites.",
        )
    labelled = _labelled(health)
    if len(labelled) < minimum:
        raise QuorumError(
            f"run {run}",
            f"{len(labelled)} of at least {minimum} sites could finetune what is pretrained (told "
            f"of no labelled training case: {_without(health, labelled)})",
            "Label cases at more sites and resume, or begin a new run with a lower "
            "federation.min_sites.",
        )


def cases_may_come(health: Mapping[SiteId, HealthReport], *, plan: Plan) -> bool:
    """Whether cases are not what a plan lacks, or sites that did not answer could have enough."""
    if plan.study.pretrain is None:
        return True
    fewest = min(len(_able_to_pretrain(health)), len(_labelled(health)))
    return fewest + len(plan.sites) - len(health) >= plan.study.federation.min_sites


def ask_the_absent(
    link: Link,
    *,
    run: RunId,
    plan: Plan,
    health: Collection[SiteId],
    observer: Observer,
) -> dict[SiteId, HealthReport]:
    """The same of sites that are connected now and did not answer before; there may be none.

    Raises:
        TransportError: The link is down.
    """
    absent = [SiteId(site) for site in plan.sites if site not in health]
    there = link.sites() if absent else ()
    sites = [site for site in absent if site in there]
    return _ask(link, sites, run=run, plan=plan, observer=observer)[0] if sites else {}


def _ask(
    link: Link, sites: Sequence[SiteId], *, run: RunId, plan: Plan, observer: Observer
) -> tuple[dict[SiteId, HealthReport], dict[SiteId, str]]:
    """What the healthy sites say, and why the others are not among them."""
    present = set(link.sites())
    asked = [site for site in sites if site in present]
    requests = [
        Request(
            run=run,
            plan=plan.digest,
            stage=0,
            round=0,
            site=site,
            action=Action.HEALTH,
            state={},
            arguments={},
            limit_s=LIMIT_S + LIMIT_PER_SITE_S * len(asked),
        )
        for site in asked
    ]
    health: dict[SiteId, HealthReport] = {}
    absent = {site: "not connected" for site in sites if site not in present}
    refused: dict[SiteId, str] = {}

    def check(reply: Reply, request: Request) -> HealthReport:
        return _healthy(reply, request, plan=plan)

    for request, found in ask_each(link, requests, check=check):
        if not isinstance(found, Missing):
            health[request.site] = found
        elif found.is_silent:
            absent[request.site] = "silent"
        else:
            refused[request.site] = str(found)
            found.tell(observer, request=request)
    for site, reason in sorted(absent.items()):
        observer.event("site.absent", site=site, reason=reason)
    return dict(sorted(health.items())), absent | refused


def _able_to_pretrain(health: Mapping[SiteId, HealthReport]) -> list[SiteId]:
    return [site for site, report in health.items() if report.pretraining_cases]


def _without(health: Mapping[SiteId, HealthReport], found: Collection[SiteId]) -> str:
    return ", ".join(sorted(health.keys() - set(found)))


def _labelled(health: Mapping[SiteId, HealthReport]) -> list[SiteId]:
    return [site for site, report in health.items() if report.training_cases]


def _healthy(reply: Reply, request: Request, *, plan: Plan) -> HealthReport:
    report = check_health(reply, request=request)
    if _minor(report.software) != _minor(plan.software):
        raise PlanMismatchError(
            f"site {request.site}",
            f"it runs fedvol {report.software}, the plan was made by {plan.software}",
            "Bring site and server to one minor version.",
        )
    if report.architecture != plan.network.architecture:
        raise PlanMismatchError(
            f"site {request.site}",
            "it builds another network from the plan",
            "Bring the site to the server's fedvol version.",
        )
    return report


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
