"""A training step on a GPU is the CPU's, in float32 closely and in bfloat16 to its precision."""

import pytest
import torch

from fedvol.config.learning import AdamW, SegmentationTask, Training
from fedvol.config.network import UNet
from fedvol.data.batch import Batch
from fedvol.models import build_network, to_arrays
from fedvol.tasks import build_objective
from fedvol.training import Watch, Window, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

STEPS = 4


class Balls:
    """Two noisy balls; other noise at each step."""

    def batch(self, step: int) -> Batch:
        axes = torch.arange(16.0) - 7.5
        distance = torch.cartesian_prod(axes, axes, axes).norm(dim=1).view(16, 16, 16)
        label = torch.stack([(distance < 4).long() + (distance < 6), (distance < 5).long()])
        noise = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(step))
        return Batch(image=(label + 0.3 * noise)[:, None], label=label)


def trained(device: str, **changes: object) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of a few steps, and the weights after them."""
    config = Training(optimiser=AdamW(kind="adamw"), num_threads=1).model_copy(update=changes)
    net = build_network(UNet(kind="unet", features=(4, 8)), in_channels=1, num_classes=3, seed=7)
    losses: list[float] = []
    train(
        net,
        objective=build_objective(SegmentationTask(kind="segmentation"), num_classes=3),
        batches=Balls(),
        config=config,
        window=Window(first_step=0, num_steps=STEPS, total_steps=STEPS),
        device=torch.device(device),
        watch=Watch(on_step=lambda step, loss: losses.append(loss)),
    )
    return losses, {name: torch.tensor(array) for name, array in to_arrays(net).items()}


@pytest.mark.parametrize(
    ("precision", "loss_tolerance", "change_tolerance"),
    [("float32", 1e-3, 0.05), ("bfloat16", 2e-2, 0.35)],
)
def test_steps_are_those_of_the_cpu(
    precision: str, loss_tolerance: float, change_tolerance: float
) -> None:
    """Weights are compared by what the steps changed, relative to its length."""
    expected, reference = trained("cpu", precision="float32", channels_last=False)
    losses, weights = trained("cuda", precision=precision, channels_last=True)
    start = build_network(UNet(kind="unet", features=(4, 8)), in_channels=1, num_classes=3, seed=7)
    initial = {name: torch.tensor(array) for name, array in to_arrays(start).items()}

    assert losses == pytest.approx(expected, rel=loss_tolerance)
    moved, distance = 0.0, 0.0
    for name, weight in weights.items():
        assert weight.dtype == torch.float32
        moved += float((reference[name] - initial[name]).square().sum())
        distance += float((reference[name] - weight).square().sum())
    assert moved > 0
    assert (distance / moved) ** 0.5 < change_tolerance


def test_network_and_moments_return_as_float32_arrays() -> None:
    net = build_network(UNet(kind="unet", features=(4, 8)), in_channels=1, num_classes=3)
    seen: list[int] = []
    result = train(
        net,
        objective=build_objective(SegmentationTask(kind="segmentation"), num_classes=3),
        batches=Balls(),
        config=Training(optimiser=AdamW(kind="adamw"), precision="bfloat16", num_threads=1),
        window=Window(first_step=0, num_steps=STEPS, total_steps=STEPS),
        device=torch.device("cuda"),
        watch=Watch(on_step=lambda step, loss: seen.append(step)),
    )
    assert seen == [1, 2, 3, 4]  # losses are read several at once, and all of them
    assert {array.dtype.name for array in to_arrays(net).values()} == {"float32"}
    assert result.optimiser_state
    assert {array.dtype.name for array in result.optimiser_state.values()} == {"float32"}
