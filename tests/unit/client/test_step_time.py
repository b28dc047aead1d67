"""A step is timed on the plan's own network and patches, without any volume."""

from tiny import tiny_study

from fedvol.client.step_time import seconds_per_step
from fedvol.simulation.federate import make_plan
from fedvol.types import SiteId


def test_more_voxels_take_longer() -> None:
    """Sixty-four times as many: no load on the machine turns that around."""
    small, _ = make_plan(tiny_study(), sites=(SiteId("a"),))
    large, _ = make_plan(tiny_study(size="size = [64, 64, 64]"), sites=(SiteId("a"),))
    assert 0 < seconds_per_step(small, device="cpu") < seconds_per_step(large, device="cpu")
