"""One small network of every kind a study may ask for, with a patch it can take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn
from torch.overrides import TorchFunctionMode

from fedvol.config.network import Network, ResidualEncoderPreset, ResidualEncoderUNet, UNet
from fedvol.models import build_network
from fedvol.models.build import unet_shape

_NETWORK: TypeAdapter[Network] = TypeAdapter(Network)


@dataclass(frozen=True, kw_only=True)
class Small:
    """A network's section and the smallest cube it learns from."""

    config: Network
    patch: tuple[int, int, int]

    @property
    def is_segmentation(self) -> bool:
        return self.config.predicts == "voxels"


def network(**keys: Any) -> Network:
    """A network's section from its keys, as a study gives them."""
    return _NETWORK.validate_python(keys)


def _small(patch: int | tuple[int, int, int], **keys: Any) -> Small:
    sides = patch if isinstance(patch, tuple) else (patch, patch, patch)
    return Small(config=network(**keys), patch=sides)


EVERY: dict[str, Small] = {
    "unet": _small(8, kind="unet", features=(4, 6)),
    "resenc_unet": _small(8, kind="resenc_unet", features=(4, 6), blocks_per_stage=(1, 2)),
    "resenc_preset": _small(64, kind="resenc_preset", size="S"),
    "pct_net": _small(
        (32, 16, 16),
        kind="pct_net", features=(4, 6, 8, 8, 12), num_heads=(2, 2, 4), drop_path=0.0,
    ),
    "vnet": _small(16, kind="vnet"),
    "dynunet": _small(8, kind="dynunet", features=(4, 6, 8)),
    "segresnet": _small(8, kind="segresnet", features=8, blocks_per_stage=(1, 2)),
    "residual_unet": _small(8, kind="residual_unet", features=(4, 6, 8)),
    "attention_unet": _small(8, kind="attention_unet", features=(4, 6, 8)),
    "basic_unet": _small((32, 16, 16), kind="basic_unet", features=(4, 4, 6, 8, 8, 4)),
    "highresnet": _small(8, kind="highresnet"),
    "unetr": _small(
        (32, 16, 16), kind="unetr", features=4, hidden_size=24, mlp_dim=32, num_heads=2
    ),
    "swin_unetr": _small(32, kind="swin_unetr", features=12, norm="group"),
    "swin_unetr_v2": _small(
        32, kind="swin_unetr", features=12, norm="group", version="v2"
    ),
    "densenet3d": _small(32, kind="densenet3d"),
    "resnet3d": _small(16, kind="resnet3d"),
    "resnet3d_50": _small(16, kind="resnet3d", depth=50, bias_downsample=True, stem_stride=1),
}  # fmt: skip


def network_shape(
    config: Network,
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    patch: tuple[int, int, int] | None = None,
) -> nn.Module:
    """A network on the `meta` device: names and shapes, no weights, no memory."""
    if isinstance(config, ResidualEncoderPreset):
        config = config.explicit()
    if isinstance(config, UNet | ResidualEncoderUNet):
        return unet_shape(config, in_channels=in_channels, num_classes=num_classes)
    with torch.device("meta"), _RampsOnCpu():
        return build_network(config, in_channels=in_channels, num_classes=num_classes, patch=patch)


class _RampsOnCpu(TorchFunctionMode):
    """Keeps `linspace` off the `meta` device: the constructor of Swin UNETR reads its values."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.linspace:
            given["device"] = "cpu"
        return func(*args, **given)
