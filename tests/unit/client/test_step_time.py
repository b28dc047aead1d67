"""A step of each stage is timed on the plan's own networks and patches, without any volume."""

from pretraining import pretrained_study
from tiny import tiny_study

from fedvol.client.step_time import seconds_per_step
from fedvol.config import Study
from fedvol.simulation.federate import make_plan
from fedvol.types import SiteId


def seconds_of(study: Study) -> tuple[float, ...]:
    plan, _ = make_plan(study, sites=(SiteId("a"),))
    return seconds_per_step(plan, device="cpu")


def test_more_voxels_take_longer() -> None:
    """Sixty-four times as many: no load on the machine turns that around."""
    (small,) = seconds_of(tiny_study())
    (large,) = seconds_of(tiny_study(size="size = [64, 64, 64]"))
    assert 0 < small < large


def test_pretraining_is_timed_on_patches_of_its_own() -> None:
    keys = "patches = { size = [64, 64, 64], batch_size = 2 }"
    pretrain, finetune = seconds_of(pretrained_study(keys=keys))
    assert 0 < finetune < pretrain
