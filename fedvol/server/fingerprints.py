"""The job before a run: ask every site for its fingerprint, and check what comes."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from fedvol.errors import NotPreparedError, QuorumError
from fedvol.federation import Action, Link, Reply, Request, check_fingerprint
from fedvol.plan import Fingerprint, Proposal
from fedvol.server.asking import Missing, ask_each
from fedvol.server.health import LIMIT_PER_SITE_S
from fedvol.telemetry import Observer
from fedvol.types import RunId, SiteId

LIMIT_S = 600.0
"""Seconds that every site has, and `LIMIT_PER_SITE_S` more for each that is asked with it."""


def ask_fingerprints(
    link: Link,
    *,
    job: RunId,
    proposal: Proposal,
    observer: Observer,
    left_out: Mapping[SiteId, str] = MappingProxyType({}),
    attempts: Iterable[None] = (None,),
) -> dict[SiteId, Fingerprint]:
    """Each site's fingerprint, sorted by site; sites without one are named as events.

    Args:
        link: To the sites.
        job: Name of the job, as a run has one.
        proposal: The study, and who is asked.
        observer: Hears of progress.
        left_out: Sites that are not asked, and why.
        attempts: How often those are asked again that still count their cases or, while there are
            too few answers, that gave none.

    Raises:
        QuorumError: Fewer sites told of training cases than the study's minimum, so that one
            hospital alone could decide the plan.
        TransportError: The link is down.
    """
    found: dict[SiteId, Fingerprint] = {}
    reasons = dict(left_out)
    for site, reason in sorted(reasons.items()):
        observer.event("site.absent", site=site, reason=reason)

    def check(reply: Reply, request: Request) -> Fingerprint:
        return check_fingerprint(reply, request=request, study=proposal.study)

    sites = [SiteId(site) for site in proposal.sites if site not in reasons]
    limit_s = LIMIT_S + LIMIT_PER_SITE_S * len(sites)
    asked = [_request(site, job, proposal, limit_s=limit_s) for site in sites]
    missing: dict[SiteId, tuple[Request, Missing]] = {}
    for _ in attempts:
        for request, answer in ask_each(link, asked, check=check):
            if isinstance(answer, Missing):
                missing[request.site] = request, answer
                continue
            found[request.site] = answer
            missing.pop(request.site, None)
            observer.event("site.fingerprint", site=request.site, cases=answer.cases)
        lacks = len(_with_cases(found)) < proposal.study.federation.min_sites
        asked = [
            request
            for request, answer in missing.values()
            if lacks or answer.code == NotPreparedError.code
        ]
        if not asked:
            break
    for request, answer in missing.values():
        answer.tell(observer, request=request)
        reasons[request.site] = f"{answer.code} {answer.title}"
    _require_quorum(proposal, found, reasons)
    return dict(sorted(found.items()))


def _with_cases(found: Mapping[SiteId, Fingerprint]) -> list[SiteId]:
    return [site for site, one in found.items() if one.cases]


def _request(site: SiteId, job: RunId, proposal: Proposal, *, limit_s: float) -> Request:
    return Request(
        run=job,
        plan=proposal.digest,
        stage=0,
        round=0,
        site=site,
        action=Action.FINGERPRINT,
        state={},
        arguments={},
        limit_s=limit_s,
    )


def _require_quorum(
    proposal: Proposal, found: dict[SiteId, Fingerprint], reasons: dict[SiteId, str]
) -> None:
    minimum = proposal.study.federation.min_sites
    with_cases = _with_cases(found)
    if len(with_cases) >= minimum:
        return
    why = reasons | dict.fromkeys(found.keys() - set(with_cases), "no training case")
    words = "; ".join(f"{site}: {reason}" for site, reason in sorted(why.items()))
    raise QuorumError(
        f"fingerprint of {proposal.study.name}",
        f"{len(with_cases)} of {len(proposal.sites)} sites told of training cases, the study needs "
        f"{minimum}" + (f" ({words})" if words else ""),
        "Add or mend sites, lower federation.min_sites, or fix the open values in the study.",
    )
