"""What a site's policy says of a study: every rule at once, and the hours."""

from datetime import datetime

import pytest
from hospital import plain_plan
from pretraining import pretrained_study
from tiny import tiny_study, tiny_text

from fedvol.config.loading import parse_open_study
from fedvol.config.site import TrainingHours
from fedvol.config.site_loading import parse_site
from fedvol.plan import Proposal
from fedvol.site import is_within, violations

HEAD = 'version = 1\nsite = "a"\nserver = "server.example:443"\n'
RULE = "policy.pretext_tasks"


def test_a_study_that_is_against_nothing() -> None:
    assert violations(tiny_study(), parse_site(HEAD, where="site.toml")) == []


def test_every_rule_is_told_at_once() -> None:
    config = parse_site(
        HEAD + '[policy]\nnetworks = ["vnet"]\nmax_rounds = 2\nmax_steps = 8\nmax_bytes_up = 100\n',
        where="site.toml",
    )
    plan = plain_plan(tiny_study())
    assert [one.where for one in violations(plan, config)] == [
        "policy.networks",
        "policy.max_rounds",
        "policy.max_steps",
        "policy.max_bytes_up",
    ]
    told = violations(plan, config)[2]
    assert told.what == "the study has 9 steps, and the site allows 8"


def test_more_threads_than_the_site_gives() -> None:
    config = parse_site(HEAD + "[resources]\nnum_threads = 1\n", where="site.toml")
    study = tiny_study(num_threads="num_threads = 2")
    assert [one.where for one in violations(study, config)] == ["resources.num_threads"]


@pytest.mark.parametrize(
    ("allowed", "against"),
    [("", []), ('["mae", "volume_fusion"]', []), ('["mae"]', [RULE]), ("[]", [RULE])],
)
def test_pretraining_on_all_cases_is_the_hospitals_to_allow(
    allowed: str, against: list[str]
) -> None:
    policy = f"[policy]\npretext_tasks = {allowed}\n" if allowed else ""
    config = parse_site(HEAD + policy, where="site.toml")
    assert [one.where for one in violations(pretrained_study(), config)] == against
    assert violations(tiny_study(), config) == []


def test_a_fingerprint_job_trains_nothing() -> None:
    config = parse_site(HEAD + "[policy]\nmax_rounds = 1\n", where="site.toml")
    study = parse_open_study(tiny_text(), where="tiny.toml")
    proposal = Proposal(software="0.1.0", study=study, sites=("a",))
    assert violations(proposal, config) == []
    assert [one.where for one in violations(study, config)] == ["policy.max_rounds"]


@pytest.mark.parametrize(
    ("time", "allowed"),
    [
        ("2026-03-02 18:59", False),  # Monday
        ("2026-03-02 19:00", True),
        ("2026-03-03 06:59", True),
        ("2026-03-03 07:00", False),
        ("2026-03-03 20:00", False),  # Tuesday's night is not listed
        ("2026-03-04 03:00", False),
        ("2026-03-02 03:00", False),  # nor is Sunday's
    ],
)
def test_a_night_belongs_to_the_day_on_which_it_begins(time: str, allowed: bool) -> None:
    hours = TrainingHours(begin="19:00", end="07:00", days=("mon",))
    assert is_within(hours, datetime.fromisoformat(time)) is allowed


def test_hours_of_one_day() -> None:
    hours = TrainingHours(begin="08:00", end="12:30")
    assert is_within(hours, datetime.fromisoformat("2026-03-02 12:29"))
    assert not is_within(hours, datetime.fromisoformat("2026-03-02 12:30"))
    assert is_within(None, datetime.fromisoformat("2026-03-02 12:30"))
