"""The job before a run: ask every site for its fingerprint, and check what comes."""

from fedvol.errors import ContributionError, QuorumError, TimeLimitError
from fedvol.federation import Action, Link, Request, check_fingerprint
from fedvol.plan import Fingerprint, Proposal
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
        QuorumError: Fewer sites answered than the study's minimum, so that no plan can be made.
        TransportError: The link is down.
    """
    requests = {
        SiteId(site): Request(
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
    }
    found: dict[SiteId, Fingerprint] = {}
    reasons: dict[SiteId, str] = {}

    def refused(site: SiteId, code: str, title: str) -> None:
        reasons[site] = f"{code} {title}"
        observer.event("site.refused", site=site, round=0, code=code, title=title)

    for reply in link.ask(list(requests.values())):
        if reply.site not in requests:
            continue
        if reply.code:
            refused(reply.site, reply.code, reply.title)
            continue
        try:
            found[reply.site] = check_fingerprint(
                reply, request=requests[reply.site], study=proposal.study
            )
        except ContributionError as error:
            refused(reply.site, error.code, error.title)
            continue
        observer.event("site.fingerprint", site=reply.site, cases=found[reply.site].cases)
    for site in sorted(requests.keys() - found.keys() - reasons.keys()):
        refused(site, TimeLimitError.code, TimeLimitError.title)
    minimum = proposal.study.federation.min_sites
    if len(found) < minimum:
        words = "; ".join(f"{site}: {reason}" for site, reason in sorted(reasons.items()))
        raise QuorumError(
            f"fingerprint of {proposal.study.name}",
            f"{len(found)} of {len(requests)} sites answered, the study needs {minimum}"
            + (f" ({words})" if words else ""),
            "Add or mend sites, lower federation.min_sites, or fix the open values in the study.",
        )
    return dict(sorted(found.items()))
