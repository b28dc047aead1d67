"""What planning says of a network's size, against the network itself."""

import pytest
import torch

from fedvol.config.learning import SegmentationTask
from fedvol.config.losses import DiceCE
from fedvol.config.network import ResidualEncoderUNet, UNet
from fedvol.data.batch import Batch
from fedvol.models import build_network
from fedvol.plan.memory import kept_values, num_parameters
from fedvol.tasks import SegmentationObjective

FLAT = ((1, 1, 1), (2, 2, 1), (2, 2, 2))
NETWORKS = {
    "plain": UNet(kind="unet", features=(8, 16, 32), strides=FLAT),
    "flat": UNet(
        kind="unet", features=(8, 12, 16), strides=FLAT, kernels=((3, 3, 1), (3, 3, 3), (3, 3, 3))
    ),
    "without deep supervision": UNet(kind="unet", features=(8, 16, 32), deep_supervision=False),
    "residual": ResidualEncoderUNet(
        kind="resenc_unet", features=(8, 16, 16), blocks_per_stage=(1, 3, 2), strides=FLAT
    ),
}
PATCH = (24, 16, 16)


def build(name: str) -> torch.nn.Module:
    return build_network(NETWORKS[name], in_channels=2, num_classes=3)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_counted_exactly(name: str) -> None:
    net = build(name)
    expected = sum(parameter.numel() for parameter in net.parameters())
    assert num_parameters(NETWORKS[name], num_channels=2, num_classes=3) == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_step_keeps_is_never_underestimated_and_little_more(name: str) -> None:
    """Every tensor that autograd saves, each counted once, weights left out."""
    net = build(name)
    weights = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            kept[address] = tensor  # held, so that no other tensor gets its place
        return tensor

    batch = Batch(image=torch.randn(2, 2, *PATCH), label=torch.randint(0, 3, (2, *PATCH)))
    task = SegmentationTask(kind="segmentation", loss=DiceCE(kind="dice_ce"), batch_dice=False)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        SegmentationObjective(task, num_classes=3).loss(net, batch)
    floats = [tensor for tensor in kept.values() if tensor.is_floating_point()]
    size_bytes = sum(tensor.untyped_storage().nbytes() for tensor in floats)
    estimate = 4 * 2 * kept_values(NETWORKS[name], patch=PATCH, num_channels=2, num_classes=3)
    assert 1.0 <= estimate / size_bytes < 1.1
