"""Every pretext task makes its network from a study, seeds and all."""

import pytest
from pretraining import pretrained_text

from fedvol.config import Study
from fedvol.config.loading import parse_study
from fedvol.federation import TransferTerms, match_state, plan_exchange
from fedvol.models import describe_parts, initial_network, to_arrays
from fedvol.plan import encoder_architecture, pretext_part, state_digest
from fedvol.simulation.federate import make_plan
from fedvol.ssl import initial_pretext_network
from fedvol.types import SiteId

TASKS = {
    "volume_fusion": "",
    "models_genesis": "shuffle_probability = 0.0",
    "mae": "block = 4",
    "s3d": "block = 4",
    "mae_vit": "",
    "voco": "grid = [2, 2, 1]",
    "rotation": "",
}
UNETR = 'kind = "unetr"\nfeatures = 4\nhidden_size = 24\nmlp_dim = 32\nnum_heads = 2'


def study_of(kind: str, *, seed: int = 7, keys: str = "") -> Study:
    text = pretrained_text(task=f'kind = "{kind}"\n{TASKS[kind]}', keys=keys)
    if kind == "mae_vit":
        text = text.replace('kind = "unet"\nfeatures = [4, 8]', UNETR)
        text = text.replace("size = [16, 16, 16]", "size = [32, 32, 32]")
    return parse_study(text.replace("seed = 7", f"seed = {seed}"), where="tiny.toml")


@pytest.mark.parametrize("kind", TASKS)
def test_a_study_gives_its_tasks_network_whose_weights_follow_from_the_seed(kind: str) -> None:
    digests = set[str]()
    for seed in (7, 7, 8):
        study = study_of(kind, seed=seed)
        assert study.pretrain is not None
        digests.add(state_digest(to_arrays(initial_pretext_network(study, study.pretrain))))
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("kind", "exchange", "transfers"),
    [
        *((kind, "whole", "whole") for kind in ("volume_fusion", "models_genesis", "mae", "s3d")),
        *((kind, "whole", "encoder") for kind in ("mae_vit", "voco", "rotation")),
        ("mae", "encoder", "encoder"),
        ("mae", "all_but_norms", "whole"),
    ],
)
def test_whoever_reads_the_record_takes_over_what_the_run_does(
    kind: str, exchange: str, transfers: str
) -> None:
    study = study_of(kind, keys=f'exchange = "{exchange}"')
    plan, initial = make_plan(study, sites=(SiteId("a"),))
    assert plan.pretraining is not None
    record = plan.pretraining.record
    assert (record.task, record.transfers) == (kind, transfers)
    travel = {spec.name for spec in plan_exchange(plan, 0).shared}
    file = {name: array for name, array in pretext_part(initial).items() if name in travel}
    parts = describe_parts(initial_network(study))
    terms = TransferTerms(channels=("CT",), normalisation=None, parts=record.transfers)
    taken, report = match_state(parts, file, record, terms=terms)
    assert set(taken) == {one.target for one in plan.pretraining.taken if one.source in travel}
    assert encoder_architecture(parts) == record.architecture
    assert not report.reshaped
