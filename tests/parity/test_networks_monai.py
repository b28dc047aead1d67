"""MONAI's networks behind our adapter compute and begin as MONAI's own classes."""

from collections.abc import Callable, Iterator

import pytest
import torch
from every_network import EVERY
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.resnet import ResNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from monai.networks.nets.unetr import UNETR
from monai.networks.nets.vnet import VNet
from torch import nn
from torch.nn import functional

from fedvol.models import build_network
from fedvol.training import threads

SEED = 11
AFFINE = ("instance", {"affine": True})

THEIRS: dict[str, Callable[[], nn.Module]] = {
    "vnet": lambda: VNet(3, 2, 3),
    "dynunet": lambda: DynUNet(
        3,
        2,
        3,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[4, 6, 8],
        norm_name=AFFINE,
        res_block=True,
        deep_supervision=True,
    ),
    "segresnet": lambda: SegResNet(
        init_filters=8, in_channels=2, out_channels=3, blocks_down=(1, 2), blocks_up=(1,)
    ),
    "residual_unet": lambda: UNet(3, 2, 3, (4, 6, 8), (2, 2), num_res_units=2, norm=AFFINE),
    "attention_unet": lambda: all_batch_norm(AttentionUnet(3, 2, 3, (4, 6, 8), (2, 2))),
    "basic_unet": lambda: BasicUNet(in_channels=2, out_channels=3, features=(4, 4, 6, 8, 8, 4)),
    "unetr": lambda: UNETR(
        2, 3, (32, 16, 16), 4, hidden_size=24, mlp_dim=32, num_heads=2, norm_name=AFFINE
    ),
    "densenet3d": lambda: DenseNet(3, 2, 3),
    "resnet3d_50": lambda: ResNet(
        "bottleneck", [3, 4, 6, 3], [64, 128, 256, 512], n_input_channels=2, num_classes=3
    ),
    "swin_unetr": lambda: SwinUNETR(2, 3, feature_size=12, norm_name=AFFINE),
    "swin_unetr_v2": lambda: SwinUNETR(2, 3, feature_size=12, use_v2=True, norm_name=AFFINE),
}
"""MONAI's networks as a user of MONAI writes them; highresnet has another head."""


def all_batch_norm(net: nn.Module) -> nn.Module:
    """Batch norm in the layers that merge skips too, where MONAI has instance norm."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.InstanceNorm3d):
                setattr(module, name, nn.BatchNorm3d(child.num_features))
    return net


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threads(1):
        yield


def ours(name: str) -> nn.Module:
    small = EVERY[name]
    config = small.config.model_copy(update={"norm": "instance"} if "swin" in name else {})
    return build_network(config, in_channels=2, num_classes=3, patch=small.patch, seed=SEED)


def theirs(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)
        return THEIRS[name]()


def their_name(name: str) -> str:
    return name.removeprefix("net.")


@pytest.mark.parametrize("name", THEIRS)
def test_weights_begin_as_in_monai(name: str) -> None:
    reference = theirs(name).state_dict()
    state = ours(name).state_dict()
    # The stage blocks of v2 have instance norms whose affine weights MONAI leaves out.
    unmatched = {key for key in state if their_name(key) not in reference}
    assert all("c.0.layer.norm" in key for key in unmatched)
    for key in state.keys() - unmatched:
        assert torch.equal(state[key], reference[their_name(key)]), key


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("training", [False, True])
def test_computes_what_monai_computes(name: str, training: bool) -> None:
    net, reference = ours(name), theirs(name)
    for module in reference.modules():
        if isinstance(module, nn.Dropout3d):
            module.p = 0.0
    net.train(training)
    reference.train(training)
    generator = torch.Generator().manual_seed(0)
    patch = (64, 32, 32) if "swin" in name else EVERY[name].patch  # more than one coarsest voxel
    x = torch.randn(2, 2, *patch, generator=generator)
    with torch.no_grad():
        outputs, expected = net(x), reference(x)
    if name == "dynunet" and training:  # stacked on the finest grid there
        stacked = expected.unbind(1)
        assert len(outputs) == len(stacked) == 2
        for output, layer in zip(outputs, stacked, strict=True):
            finest = functional.interpolate(output, layer.shape[2:])
            torch.testing.assert_close(finest, layer, rtol=1e-4, atol=1e-5)
        return
    torch.testing.assert_close(outputs[0], expected, rtol=1e-4, atol=1e-4)
