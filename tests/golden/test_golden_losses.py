"""Committed losses of a few steps; a refactor must not change them."""

import pytest
import torch

from fedvol.config.learning import AdamW, SegmentationTask, Sgd, Training
from fedvol.config.network import Network, ResidualEncoderUNet, UNet
from fedvol.data.batch import Batch
from fedvol.models import build_network
from fedvol.tasks import build_objective
from fedvol.training import Watch, Window, threads, train

PLAIN = UNet(kind="unet", features=(4, 8, 12))
RESIDUAL = ResidualEncoderUNet(kind="resenc_unet", features=(4, 8), blocks_per_stage=(1, 2))
ADAMW = Training(optimiser=AdamW(kind="adamw"), num_threads=1)
SGD = Training(optimiser=Sgd(kind="sgd"), num_threads=1)

LOSSES: dict[str, tuple[Network, Training, tuple[float, ...]]] = {
    "plain": (
        PLAIN,
        ADAMW,
        (
            2.367176055908203,
            2.3207526206970215,
            2.2469310760498047,
            2.2121949195861816,
            2.184662342071533,
        ),
    ),
    "residual": (
        RESIDUAL,
        SGD,
        (
            2.4703423976898193,
            2.4069230556488037,
            2.3021812438964844,
            2.2120165824890137,
            2.1275382041931152,
        ),
    ),
}


class Ball:
    """A noisy ball per sample; the same batch at every step but for its noise."""

    def batch(self, step: int) -> Batch:
        axes = torch.arange(16.0) - 7.5
        distance = (
            axes[:, None, None] ** 2 + axes[None, :, None] ** 2 + axes[None, None, :] ** 2
        ).sqrt()
        label = torch.stack([(distance < 4).long() + (distance < 6), (distance < 5).long()])
        noise = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(step))
        return Batch(image=(label + 0.3 * noise)[:, None], label=label)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_committed(name: str) -> None:
    network, training, expected = LOSSES[name]
    losses: list[float] = []
    with threads(1):
        train(
            build_network(network, in_channels=1, num_classes=3, seed=1),
            objective=build_objective(SegmentationTask(kind="segmentation"), num_classes=3),
            batches=Ball(),
            config=training,
            window=Window(first_step=0, num_steps=5, total_steps=10),
            device=torch.device("cpu"),
            watch=Watch(on_step=lambda step, loss: losses.append(loss)),
        )
    assert losses == pytest.approx(expected, rel=1e-6)
