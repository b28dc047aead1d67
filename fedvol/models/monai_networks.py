"""MONAI's networks: their arguments, and which of their modules are what.

MONAI is imported where a network is built and not before: the import takes seconds.
"""

from typing import assert_never

from torch import nn

from fedvol.config.monai_networks import (
    UNETR,
    AttentionUNet,
    BasicUNet,
    DenseNet3d,
    DynUNet,
    HighResNet,
    MonaiNetwork,
    OneOutput,
    ResidualUNet,
    ResNet3d,
    SegResNet,
    SwinUNETR,
    VNet,
)
from fedvol.config.network import level_kernels, level_strides
from fedvol.config.network_checks import SEGRESNET_GROUPS
from fedvol.config.patch_rule import inner_strides, patch_rule
from fedvol.errors import NetworkConfigError
from fedvol.models.dynunet import DynUNetAdapter
from fedvol.models.monai_adapter import MonaiAdapter, adopt_layers
from fedvol.models.monai_parts import (
    BASIC_UNET_PARTS,
    DECODER,
    DENSENET_PARTS,
    ENCODER,
    HEAD,
    RESNET_PARTS,
    SEGRESNET_PARTS,
    STEM,
    SWIN_UNETR_PARTS,
    UNETR_PARTS,
    VNET_PARTS,
    Parts,
)
from fedvol.types import Triple

_DENSENET_BLOCKS = {
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
    264: (6, 12, 64, 48),
}
_RESNET_BLOCKS = {
    18: ("basic", [2, 2, 2, 2]),
    34: ("basic", [3, 4, 6, 3]),
    50: ("bottleneck", [3, 4, 6, 3]),
}

_HIGHRESNET_BLOCKS = 12


def build_monai(
    config: MonaiNetwork, *, in_channels: int, num_classes: int, patch: Triple | None
) -> nn.Module:
    """A network of MONAI; its weights come from torch's global random state.

    Args:
        config: Which network.
        in_channels: Channels of the image.
        num_classes: Logits per voxel or volume.
        patch: Voxels of the patch, for a network that is built for one size.

    Raises:
        NetworkConfigError: The network needs a patch of another size.
    """
    if isinstance(config, DynUNet):
        return _dynunet(config, in_channels=in_channels, num_classes=num_classes)
    net, parts = _build(config, in_channels=in_channels, num_classes=num_classes, patch=patch)
    adopt_layers(net, norm=config.norm)
    only = patch if isinstance(config, UNETR) else None
    deepest = _deepest(config)
    return MonaiAdapter(net, parts=parts, deepest=deepest, rule=patch_rule(config), patch=only)


def _build(
    config: OneOutput,
    *,
    in_channels: int,
    num_classes: int,
    patch: Triple | None,
) -> tuple[nn.Module, Parts]:
    match config:
        case VNet():
            return _vnet(in_channels=in_channels, num_classes=num_classes), VNET_PARTS
        case SegResNet():
            from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet

            blocks = config.blocks_per_stage
            groups = ("group", {"num_groups": SEGRESNET_GROUPS})
            return MonaiSegResNet(
                init_filters=config.features,
                in_channels=in_channels,
                out_channels=num_classes,
                norm=groups if config.norm == "group" else "batch",
                blocks_down=blocks,
                blocks_up=(1,) * (len(blocks) - 1),
            ), SEGRESNET_PARTS
        case ResidualUNet():
            return _residual_unet(config, in_channels=in_channels, num_classes=num_classes)
        case AttentionUNet():
            return _attention_unet(config, in_channels=in_channels, num_classes=num_classes)
        case BasicUNet():
            from monai.networks.nets.basic_unet import BasicUNet as MonaiBasicUNet

            return MonaiBasicUNet(
                in_channels=in_channels, out_channels=num_classes, features=config.features
            ), BASIC_UNET_PARTS
        case HighResNet():
            return _highresnet(in_channels=in_channels, num_classes=num_classes)
        case UNETR():
            return _unetr(
                config, in_channels=in_channels, num_classes=num_classes, patch=patch
            ), UNETR_PARTS
        case SwinUNETR():
            from monai.networks.nets.swin_unetr import SwinUNETR as MonaiSwinUNETR

            return MonaiSwinUNETR(
                in_channels,
                num_classes,
                feature_size=config.features,
                use_v2=config.version == "v2",
            ), SWIN_UNETR_PARTS
        case DenseNet3d():
            from monai.networks.nets.densenet import DenseNet

            return DenseNet(
                3, in_channels, num_classes, block_config=_DENSENET_BLOCKS[config.depth]
            ), DENSENET_PARTS
        case ResNet3d():
            return _resnet(config, in_channels=in_channels, num_classes=num_classes), RESNET_PARTS
        case _:
            assert_never(config)


def _deepest(config: OneOutput) -> str:
    """Name of the module that ends the encoder."""
    match config:
        case VNet():
            return "down_tr256"
        case SegResNet():
            return f"down_layers.{len(config.blocks_per_stage) - 1}"
        case ResidualUNet():
            return "model" + ".1.submodule" * (len(config.features) - 1)
        case AttentionUNet():
            return "model.1" + ".submodule.1" * (len(config.features) - 2) + ".submodule"
        case BasicUNet():
            return "down_4"
        case HighResNet():
            return f"blocks.{_HIGHRESNET_BLOCKS - 2}"
        case UNETR():
            return "vit.norm"
        case SwinUNETR():
            return "swinViT.layers4.0"
        case DenseNet3d():
            return "features"
        case ResNet3d():
            return "layer4"
        case _:
            assert_never(config)


def _vnet(*, in_channels: int, num_classes: int) -> nn.Module:
    from monai.networks.nets.vnet import VNet as MonaiVNet

    net = MonaiVNet(in_channels=in_channels, out_channels=num_classes)
    for module in net.modules():
        if isinstance(module, nn.Dropout3d):
            module.p = 0.0  # the two finest decoder stages take no argument for it
    return net


def _dynunet(config: DynUNet, *, in_channels: int, num_classes: int) -> nn.Module:
    from monai.networks.nets.dynunet import DynUNet as MonaiDynUNet

    strides = level_strides(config)
    net = MonaiDynUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=num_classes,
        kernel_size=level_kernels(config),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=config.features,
        deep_supervision=config.deep_supervision,
        deep_supr_num=len(strides) - 2,
        res_block=config.residual,
    )
    adapter = DynUNetAdapter(net, rule=patch_rule(config))
    adopt_layers(adapter, norm=config.norm)
    return adapter


def _residual_unet(
    config: ResidualUNet, *, in_channels: int, num_classes: int
) -> tuple[nn.Module, Parts]:
    from monai.networks.nets.unet import UNet as MonaiUNet

    net = MonaiUNet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=num_classes,
        channels=config.features,
        strides=inner_strides(config),  # pyright: ignore[reportArgumentType]  # its stub knows cubes only
        num_res_units=config.units_per_stage,
    )
    parts = {
        "model": ENCODER,
        "model.0.conv.unit0": STEM,
        "model.0.residual": STEM,
        "model.2": HEAD,
    }
    level = "model"
    for _ in range(len(config.features) - 2):
        level += ".1.submodule"
        parts[f"{level}.2"] = DECODER
    return net, parts


def _attention_unet(
    config: AttentionUNet, *, in_channels: int, num_classes: int
) -> tuple[nn.Module, Parts]:
    from monai.networks.nets.attentionunet import AttentionUnet as MonaiAttentionUnet

    net = MonaiAttentionUnet(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=num_classes,
        channels=config.features,
        strides=inner_strides(config),  # pyright: ignore[reportArgumentType]  # its stub knows cubes only
    )
    parts = {"model.0": ENCODER, "model.0.conv.0": STEM, "model.1": DECODER, "model.2": HEAD}
    level = "model.1"
    for _ in range(len(config.features) - 2):
        parts[f"{level}.submodule.0"] = ENCODER
        level += ".submodule.1"
    parts[f"{level}.submodule"] = ENCODER
    return net, parts


def _highresnet(*, in_channels: int, num_classes: int) -> tuple[nn.Module, Parts]:
    from monai.networks.nets.highresnet import HighResNet as MonaiHighResNet

    net = MonaiHighResNet(in_channels=in_channels, out_channels=num_classes)
    last = len(net.blocks) - 1
    # In place of a convolution without bias, a norm and a ReLU over the logits.
    net.blocks[last] = nn.Conv3d(80, num_classes, 1)
    return net, {"blocks": ENCODER, "blocks.0": STEM, f"blocks.{last}": HEAD}


def _unetr(config: UNETR, *, in_channels: int, num_classes: int, patch: Triple | None) -> nn.Module:
    from monai.networks.nets import unetr

    step = patch_rule(config).multiple_of
    if patch is None or any(side % least for side, least in zip(patch, step, strict=True)):
        raise NetworkConfigError(
            "patches.size",
            f"unetr is built for one patch, whose sides are multiples of {step[0]}; it is {patch}",
            "Give such a patch.",
        )
    net = unetr.UNETR(
        in_channels=in_channels,
        out_channels=num_classes,
        img_size=patch,
        feature_size=config.features,
        hidden_size=config.hidden_size,
        mlp_dim=config.mlp_dim,
        num_heads=config.num_heads,
    )
    for block in net.vit.blocks:
        block.norm_cross_attn = nn.Identity()  # there is no cross-attention: it never learns
    return net


def _resnet(config: ResNet3d, *, in_channels: int, num_classes: int) -> nn.Module:
    from monai.networks.nets.resnet import ResNet

    # Shortcuts are convolutions (type B) at every depth: MONAI's type A lets no gradient pass.
    block, layers = _RESNET_BLOCKS[config.depth]
    return ResNet(
        block,
        layers,
        [64, 128, 256, 512],
        n_input_channels=in_channels,
        conv1_t_stride=config.stem_stride,
        shortcut_type="B",
        num_classes=num_classes,
        bias_downsample=config.bias_downsample,
    )
