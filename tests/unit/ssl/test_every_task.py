"""Every pretext task makes its network from a study, seeds and all."""

import pytest
from pretraining import pretrained_text

from fedvol.config.loading import parse_study
from fedvol.models import to_arrays
from fedvol.plan import state_digest
from fedvol.ssl import initial_pretext_network

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


@pytest.mark.parametrize("kind", TASKS)
def test_a_study_gives_its_tasks_network_whose_weights_follow_from_the_seed(kind: str) -> None:
    text = pretrained_text(task=f'kind = "{kind}"\n{TASKS[kind]}')
    if kind == "mae_vit":
        text = text.replace('kind = "unet"\nfeatures = [4, 8]', UNETR)
        text = text.replace("size = [16, 16, 16]", "size = [32, 32, 32]")
    digests = set[str]()
    for seed in (7, 7, 8):
        study = parse_study(text.replace("seed = 7", f"seed = {seed}"), where="tiny.toml")
        assert study.pretrain is not None
        digests.add(state_digest(to_arrays(initial_pretext_network(study, study.pretrain))))
    assert len(digests) == 2
