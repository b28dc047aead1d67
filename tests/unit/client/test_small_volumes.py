"""Cases smaller than a patch that takes no padding are left out of pretraining, and told of."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pretraining import pretrained_text
from tiny import CPU, RUN, Events, Federation, make_federation

from fedvol.audit import AuditLog
from fedvol.client.agent import SiteAgent
from fedvol.client.cases import SiteCase, SiteCases
from fedvol.client.plan_network import PlanNetwork
from fedvol.client.pretraining import fitting
from fedvol.config import SitePolicy, Study
from fedvol.config.loading import parse_study
from fedvol.data.case_store import CaseStore
from fedvol.data.volume import PreparedCase
from fedvol.errors import NoCasesError
from fedvol.federation import Action, Request, RoundState, SiteState
from fedvol.types import CaseId, Digest, SiteId, SubjectId

Cases = Mapping[SiteId, SiteCases]
SITE = SiteId("hospital_1")
LEAVES_OUT = {"rotation": "", "voco": "grid = [2, 2, 1]"}
PADS = {"volume_fusion": "boxes = [4, 8]", "mae": "block = 4", "s3d": "block = 4"}
GRID = (12, 20, 20)
"""Too small along one axis for the tiny study's patch."""


def study_of(kind: str, keys: str) -> Study:
    text = pretrained_text(task=f'kind = "{kind}"\n{keys}').replace("rounds = 2", "rounds = 1")
    text = text.replace("rounds = 3\nsteps_per_round = 3", "rounds = 1\nsteps_per_round = 1")
    return parse_study(f"{text}[federation]\nmin_sites = 1\n", where="tiny.toml")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[SiteCase, ...]:
    """Two unlabelled cases of two subjects."""
    store = CaseStore(tmp_path_factory.mktemp("small"))
    names = [CaseId("s0"), CaseId("s1")]
    for number, name in enumerate(names):
        prepared = PreparedCase(
            image=np.random.default_rng(number).normal(size=(1, *GRID)).astype(np.float32),
            label=None,
            affine=np.eye(4),
            reference_label=None,
            reference_shape=GRID,
            reference_affine=np.eye(4),
            foreground={},
        )
        store.write(name, prepared, key=Digest("0" * 64))
    return tuple(SiteCase(stored=store.open(n), subject=SubjectId(f"{n}-subject")) for n in names)


def federation_of(
    kind: str, keys: str, *, cases: Cases, at_site: SiteCases, folder: Path
) -> Federation:
    federation = make_federation(
        study_of(kind, keys), cases={**cases, SITE: at_site}, folder=folder
    )
    federation.run()
    return federation


@pytest.mark.parametrize(("kind", "keys"), [*LEAVES_OUT.items(), *PADS.items()])
def test_only_tasks_that_take_no_padding_leave_small_cases_out(
    kind: str, keys: str, tiny_cases: Cases, small: tuple[SiteCase, ...]
) -> None:
    whole = tiny_cases[SITE].train
    kept = fitting((*whole, *small), study_of(kind, keys))
    assert kept == (whole if kind in LEAVES_OUT else (*whole, *small))


@pytest.mark.parametrize("kind", LEAVES_OUT)
def test_a_site_pretrains_on_the_others_and_says_how_many_it_left_out(
    kind: str, tiny_cases: Cases, small: tuple[SiteCase, ...], tmp_path: Path
) -> None:
    mixed = replace(tiny_cases[SITE], unlabelled=small, unlabelled_validation=small)
    federation = federation_of(
        kind, LEAVES_OUT[kind], cases=tiny_cases, at_site=mixed, folder=tmp_path
    )
    first = federation.rounds()[0]
    assert first.state is RoundState.CLOSED
    told = {site.site: site for site in first.sites}
    assert told[SITE].cases == len(mixed.train)
    assert first.metrics[SITE]["pretext_loss"].n == len(mixed.validation)
    assert federation.observer.named("site.too_small") == [
        {
            "site": SITE,
            "cases": 2,
            "total": len(mixed.train) + 2,
            "task": kind,
            "patch": "16x16x16",
        }
    ]


def test_a_site_of_small_cases_alone_refuses_and_the_others_go_on(
    tiny_cases: Cases, small: tuple[SiteCase, ...], tmp_path: Path
) -> None:
    bare = replace(tiny_cases[SITE], train=(), validation=(), test=(), unlabelled=small)
    federation = federation_of("rotation", "", cases=tiny_cases, at_site=bare, folder=tmp_path)
    told = {site.site: site for site in federation.rounds()[0].sites}
    assert told[SITE].state is SiteState.REFUSED
    assert told[SITE].code == NoCasesError.code
    assert {one.state for site, one in told.items() if site != SITE} == {SiteState.CONTRIBUTED}
    [refusal] = [one for one in federation.observer.named("site.refused") if one.get("detail")][:1]
    assert "every case is smaller than the patch of 16x16x16 voxels" in str(refusal["detail"])
    assert "rotation takes no padding" in str(refusal["detail"])


def test_a_floor_counts_the_subjects_that_are_left(
    tiny_cases: Cases, small: tuple[SiteCase, ...], tmp_path: Path
) -> None:
    """Four subjects are enough to finetune, and of the two who could pretrain nothing is told."""
    mixed = replace(tiny_cases[SITE], train=(*tiny_cases[SITE].train[:2], *small))
    plan = make_federation(study_of("rotation", ""), cases=tiny_cases, folder=tmp_path).plan
    agent = SiteAgent(
        site=SITE,
        plan=plan,
        cases=mixed,
        folder=tmp_path / "site",
        policy=SitePolicy(min_cohort=4, min_group=2),
        audit=AuditLog(tmp_path / "audit.jsonl"),
        resampling_key=plan.digest,
        network=PlanNetwork(plan, device=CPU),
        observer=Events(),
    )
    asked = Request(
        action=Action.HEALTH, run=RUN, plan=plan.digest, site=SITE, stage=0, round=0, state={},
        arguments={}, limit_s=60.0,
    )  # fmt: skip
    told = agent.handle(asked).values
    assert (told["training_cases"], told["pretraining_cases"]) == (4, 0)


@pytest.mark.parametrize("kind", PADS)
def test_other_tasks_pretrain_on_small_cases(
    kind: str, tiny_cases: Cases, small: tuple[SiteCase, ...], tmp_path: Path
) -> None:
    bare = replace(tiny_cases[SITE], train=(), validation=(), test=(), unlabelled=small)
    federation = federation_of(kind, PADS[kind], cases=tiny_cases, at_site=bare, folder=tmp_path)
    told = {site.site: site for site in federation.rounds()[0].sites}
    assert told[SITE].state is SiteState.CONTRIBUTED
    assert told[SITE].cases == 2
    assert federation.observer.named("site.too_small") == []
