"""The job before a run: ask every site for its fingerprint, and check what comes."""

from fedvol.errors import QuorumError
from fedvol.federation import Action, Link, Reply, Request, check_fingerprint
from fedvol.plan import Fingerprint, Proposal
from fedvol.server.asking import Missing, ask_each
from fedvol.telemetry import Observer
from fedvol.types import RunId, SiteId

_LIMIT_S = 600.0


def ask_fingerprints(
    link: Link, *, job: RunId, proposal: Proposal, observer: Observer
) -> dict[SiteId, Fingerprint]:
    """Each site's fingerprint, sorted by site; sites without one are named as events.

    Args:
        link: To the sites.
        job: Name of the job, as a run has one.
        proposal: The study, and who is asked.
        observer: Hears of progress.

    Raises:
        QuorumError: Fewer sites told of training cases than the study's minimum, so that one
            hospital alone could decide the plan.
        TransportError: The link is down.
    """
    requests = [
        Request(
            run=job,
            plan=proposal.digest,
            stage=0,
            round=0,
            site=SiteId(site),
            action=Action.FINGERPRINT,
            state={},
            arguments={},
            limit_s=_LIMIT_S,
        )
        for site in proposal.sites
    ]

    def check(reply: Reply, request: Request) -> Fingerprint:
        return check_fingerprint(reply, request=request, study=proposal.study)

    found: dict[SiteId, Fingerprint] = {}
    reasons: dict[SiteId, str] = {}
    for request, answer in ask_each(link, requests, check=check):
        if isinstance(answer, Missing):
            answer.tell(observer, request=request)
            reasons[request.site] = f"{answer.code} {answer.title}"
            continue
        found[request.site] = answer
        observer.event("site.fingerprint", site=request.site, cases=answer.cases)
    minimum = proposal.study.federation.min_sites
    with_cases = [site for site, one in found.items() if one.cases]
    if len(with_cases) < minimum:
        reasons |= dict.fromkeys(found.keys() - set(with_cases), "no training case")
        words = "; ".join(f"{site}: {reason}" for site, reason in sorted(reasons.items()))
        raise QuorumError(
            f"fingerprint of {proposal.study.name}",
            f"{len(with_cases)} of {len(requests)} sites told of training cases, the study needs "
            f"{minimum}" + (f" ({words})" if words else ""),
            "Add or mend sites, lower federation.min_sites, or fix the open values in the study.",
        )
    return dict(sorted(found.items()))
