"""Who would train: each site that would not is told once, by what it answered."""

from collections.abc import Iterator, Sequence

import pytest
from tiny import Events, tiny_study

from fedvol.errors import CohortTooSmallError, QuorumError
from fedvol.federation import HealthReport, Reply, Request
from fedvol.plan import NetworkDescription, Plan
from fedvol.server.health import LIMIT_PER_SITE_S, LIMIT_S, ask_health
from fedvol.types import Digest, RunId, SiteId


class Sites:
    """One is fit, one refuses, one runs another version, one is silent, one is not there."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.limits_s: list[float] = []

    def sites(self) -> tuple[SiteId, ...]:
        return tuple(SiteId(site) for site in ("fit", "refusing", "other", "silent"))

    def ask(self, requests: Sequence[Request]) -> Iterator[Reply]:
        for request in requests:
            self.limits_s.append(request.limit_s)
            if request.site == "silent":
                continue
            refuses = request.site == "refusing"
            report = HealthReport(
                software="0.2.0" if request.site == "other" else "0.1.0",
                architecture=self.plan.network.architecture,
                training_cases=12,
                validation_cases=None,
                test_cases=None,
                skipped={},
            )
            yield Reply(
                run=request.run,
                stage=request.stage,
                round=request.round,
                site=request.site,
                action=request.action,
                code=CohortTooSmallError.code if refuses else "",
                title=CohortTooSmallError.title if refuses else "",
                tensors={},
                values={} if refuses else report.model_dump(mode="json"),
                bytes_up=1,
                bytes_down=2,
            )


def test_refusals_are_told_as_refusals_and_only_who_did_not_answer_is_absent() -> None:
    names = ("fit", "refusing", "other", "silent", "gone")
    plan = Plan(
        software="0.1.0",
        study=tiny_study(),
        sites=tuple(sorted(names)),
        network=NetworkDescription(tensors=(), initial_digest=Digest("0" * 64)),
    )
    heard, sites = Events(), Sites(plan)
    with pytest.raises(QuorumError) as caught:
        ask_health(sites, run=RunId("r"), plan=plan, observer=heard)
    absent = {str(event["site"]): event["reason"] for event in heard.named("site.absent")}
    assert absent == {"gone": "not connected", "silent": "silent"}
    refused = {str(event["site"]): event for event in heard.named("site.refused")}
    assert set(refused) == {"refusing", "other"}
    assert refused["refusing"]["code"] == CohortTooSmallError.code
    assert refused["refusing"]["detail"] == ""
    assert "fedvol 0.2.0" in str(refused["other"]["detail"])
    for name in set(names) - {"fit"}:
        assert f"{name}: " in str(caught.value)
    # The more are asked, the longer each has: four of five are there.
    assert sites.limits_s == [LIMIT_S + 4 * LIMIT_PER_SITE_S] * 4
