"""What a site's policy says of a study: every rule it is against, at once."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from fedvol.config import OpenStudy, SiteConfig, Study
from fedvol.config.site import WEEKDAYS, TrainingHours
from fedvol.errors import Problem
from fedvol.plan import Plan, Proposal
from fedvol.site.estimates import plain_bytes, run_traffic, total_rounds, total_steps


def violations(content: Plan | Proposal | Study | OpenStudy, config: SiteConfig) -> list[Problem]:
    """Every rule of a site that a study, a plan or a fingerprint job is against.

    A study alone has no network's size yet, so the rule on bytes is judged from a plan on.

    Args:
        content: What is proposed.
        config: The site's own file.
    """
    study = content.study if isinstance(content, Plan | Proposal) else content
    found = [*_networks(study, config), *_pretraining(study, config)]
    if isinstance(content, Proposal):
        return found  # nothing is trained and no weights travel
    found += [*_amounts(study, config), *_threads(study, config)]
    if isinstance(content, Plan):
        found += _bytes(content, config)
    return found


def is_within(hours: TrainingHours | None, now: datetime) -> bool:
    """Whether a site trains at this moment; `now` is the machine's local time."""
    if hours is None:
        return True
    begin, end = _minutes(hours.begin), _minutes(hours.end)
    minute = now.hour * 60 + now.minute
    today, yesterday = now, now - timedelta(days=1)
    if begin < end:
        return begin <= minute < end and _day(today) in hours.days
    late = minute >= begin and _day(today) in hours.days
    return late or (minute < end and _day(yesterday) in hours.days)


def _networks(study: Study | OpenStudy, config: SiteConfig) -> Iterator[Problem]:
    policy = config.policy
    if policy.networks is not None and study.network.kind not in policy.networks:
        yield Problem(
            where="policy.networks",
            what=f"the study's network is {study.network.kind}, and the site trains "
            f"{', '.join(policy.networks)}",
            fix="Add it to policy.networks if the hospital agrees.",
        )


def _pretraining(study: Study | OpenStudy, config: SiteConfig) -> Iterator[Problem]:
    stage, allowed = study.pretrain, config.policy.pretext_tasks
    if stage is not None and allowed is not None and stage.task.kind not in allowed:
        yield Problem(
            where="policy.pretext_tasks",
            what=f"the study pretrains by {stage.task.kind} on all training cases, and the site "
            f"allows {', '.join(allowed) or 'no pretraining'}",
            fix="Add it to policy.pretext_tasks if the hospital agrees.",
        )


def _amounts(study: Study | OpenStudy, config: SiteConfig) -> Iterator[Problem]:
    for name, asked, allowed in (
        ("max_rounds", total_rounds(study), config.policy.max_rounds),
        ("max_steps", total_steps(study), config.policy.max_steps),
    ):
        noun = name.removeprefix("max_")
        if allowed is not None and asked > allowed:
            yield Problem(
                where=f"policy.{name}",
                what=f"the study has {asked} {noun}, and the site allows {allowed}",
                fix=f"Ask for a shorter study, or raise policy.{name}.",
            )


def _threads(study: Study | OpenStudy, config: SiteConfig) -> Iterator[Problem]:
    asked = max(stage.training.num_threads for stage in study.stages)
    if asked > config.resources.num_threads:
        yield Problem(
            where="resources.num_threads",
            what=f"the study computes with {asked} threads, and the site gives "
            f"{config.resources.num_threads}",
            fix="Raise resources.num_threads, or ask for a study with fewer.",
        )


def _bytes(plan: Plan, config: SiteConfig) -> Iterator[Problem]:
    allowed, asked = config.policy.max_bytes_up, run_traffic(plan).bytes_up
    if allowed is not None and asked > allowed:
        yield Problem(
            where="policy.max_bytes_up",
            what=f"the run sends {plain_bytes(asked)} up, and the site allows "
            f"{plain_bytes(allowed)}",
            fix="Ask for a shorter study or a smaller network, or raise policy.max_bytes_up.",
        )


def _minutes(time: str) -> int:
    return int(time[:2]) * 60 + int(time[3:])


def _day(moment: datetime) -> str:
    return WEEKDAYS[moment.weekday()]
