"""Federated pretraining reaches the loss of pooled pretraining with as many gradient steps in all.

The pooled model takes its steps one after another, where sites take theirs side by side: while the
loss still falls it is ahead. So both are trained until the loss has flattened, which takes more
steps than a test has for the tasks that are not here (`docs/pretraining.md`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pytest
from pretraining import pretrained_text
from tiny import CPU, make_federation

from fedvol.client.cases import SiteCases, pool
from fedvol.client.pretraining import pretext_source
from fedvol.config import Study
from fedvol.config.loading import parse_study
from fedvol.simulation.baselines import POOLED_SITE, baseline_study
from fedvol.ssl import build_pretext, initial_pretext_network
from fedvol.store import ALL_SITES
from fedvol.types import SiteId

Cases = Mapping[SiteId, SiteCases]

UNETR = 'kind = "unetr"\nfeatures = 4\nhidden_size = 24\nmlp_dim = 48\nnum_heads = 2'


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a task is trained until its loss has flattened."""

    task: str
    side: int = 16
    network: str = 'kind = "unet"\nfeatures = [4, 8]'
    rounds: int = 10
    steps: int = 20
    rate: float = 1e-2


SETTINGS = {
    "volume_fusion": Setting(task="boxes = [4, 8]", rounds=8),
    "mae": Setting(task="block = 8", rounds=80),
    "mae_vit": Setting(task="decoder_width = 32", side=32, network=UNETR, rounds=160),
}
FAST = ("volume_fusion",)
SEVERAL_MINUTES = pytest.mark.timeout(3600)


def study_of(kind: str) -> Study:
    setting = SETTINGS[kind]
    changes = {
        "rounds = 2\nsteps_per_round = 3": f"rounds = {setting.rounds}\n"
        f"steps_per_round = {setting.steps}",
        "rounds = 3\nsteps_per_round = 3": "rounds = 1\nsteps_per_round = 1",
        "learning_rate = 5e-3": f"learning_rate = {setting.rate}",
        'kind = "unet"\nfeatures = [4, 8]': setting.network,
        "size = [16, 16, 16]": f"size = {[setting.side] * 3}",
    }
    text = pretrained_text(task=f'kind = "{kind}"\n{setting.task}')
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return parse_study(f"{text}[federation]\nmin_sites = 1\n", where="parity.toml")


def losses(study: Study, cases: Cases, folder: Path) -> list[float]:
    """The pretext loss on validation cases after each round of the pretraining."""
    federation = make_federation(study, cases=cases, folder=folder)
    federation.run()
    found = [
        one.metrics[ALL_SITES]["pretext_loss"].value
        for one in federation.rounds()
        if one.stage == 0
    ]
    assert None not in found
    return [float(loss) for loss in found if loss is not None]


def trivial_loss(study: Study, cases: Cases, folder: Path) -> float:
    """The loss of an answer that does not look at the patch, on validation cases."""
    assert study.pretrain is not None
    together = pool(cases)
    plan = make_federation(study, cases=cases, folder=folder).plan
    source = pretext_source(plan, 0, together.validation, site=POOLED_SITE, device=CPU)
    task, net = build_pretext(study.pretrain.task), initial_pretext_network(study, study.pretrain)
    return fmean(task.score(net, source.batch(step)).trivial_loss for step in range(8))


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in FAST else [pytest.mark.full, SEVERAL_MINUTES])
        for kind in SETTINGS
    ],
)
def test_federated_pretraining_reaches_the_pooled_loss(
    kind: str, tiny_cases: Cases, tmp_path: Path
) -> None:
    """Of two sites with three and two cases, whose pooled model has all five."""
    study = study_of(kind)
    cases = {site: tiny_cases[site] for site in sorted(tiny_cases)[:2]}
    alone = baseline_study(study, num_sites=2, num_pretraining=2)
    assert alone.pretrain is not None
    assert alone.pretrain.steps_per_round == 2 * SETTINGS[kind].steps
    federated = losses(study, cases, tmp_path / "federated")
    pooled = losses(alone, {POOLED_SITE: pool(cases)}, tmp_path / "pooled")
    trivial = trivial_loss(study, cases, tmp_path / "trivial")
    assert min(pooled) < 0.98 * trivial
    assert min(federated) < 0.98 * trivial
    assert min(federated) <= 1.05 * min(pooled)
