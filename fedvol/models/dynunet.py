"""MONAI's DynUNet with each of its modules held once and its outputs apart."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from torch import Tensor, nn

from fedvol.config.patch_rule import PatchRule
from fedvol.models.blocks import Features
from fedvol.models.grid import require_grid
from fedvol.models.unet import Logits
from fedvol.plan import TensorKind

if TYPE_CHECKING:
    from monai.networks.nets.dynunet import DynUNet


@final
class DynUNetAdapter(nn.Module):
    """The layers of a DynUNet, under their names there.

    MONAI's class registers every layer twice, so its state is twice as large as the network, and
    in training brings all outputs to the finest grid and stacks them. Layers and mathematics are
    the same here; each output stays on its own grid.

    Args:
        net: The network; its layers are taken over.
        rule: Grids it can take.
    """

    def __init__(self, net: "DynUNet", *, rule: PatchRule) -> None:
        super().__init__()
        self.input_block = net.input_block
        self.downsamples = net.downsamples
        self.bottleneck = net.bottleneck
        self.upsamples = net.upsamples  # coarsest first
        self.output_block = net.output_block
        self.deep_supervision_heads = (
            net.deep_supervision_heads if net.deep_supervision else nn.ModuleList()
        )
        self._rule = rule

    @property
    def deepest(self) -> nn.Module:
        """The module that ends the encoder."""
        return self.bottleneck

    def forward(self, x: Features) -> tuple[Logits, ...]:
        """Logits, finest first; coarser ones only while training with deep supervision.

        Raises:
            NetworkConfigError: The grid cannot be halved as often as the network does.
        """
        require_grid(x, multiple_of=self._rule.multiple_of)
        x = self.input_block(x)
        skips = [x]
        for level in self.downsamples:
            x = level(x)
            skips.append(x)
        x = self.bottleneck(x)
        decoded: list[Tensor] = []  # coarsest first
        for up in self.upsamples:
            x = up(x, skips.pop())
            decoded.append(x)
        coarser = self.deep_supervision_heads if self.training else []
        features = reversed(decoded[:-1])
        return (
            self.output_block(x),
            *(head(level) for head, level in zip(coarser, features, strict=False)),
        )

    def parts(self) -> Mapping[str, TensorKind]:
        """Kind of the tensors below each module named, norm layers aside."""
        return {
            "input_block": TensorKind.ENCODER,
            "input_block.conv1": TensorKind.STEM,
            "input_block.conv3": TensorKind.STEM,
            "downsamples": TensorKind.ENCODER,
            "bottleneck": TensorKind.ENCODER,
            "upsamples": TensorKind.DECODER,
            "output_block": TensorKind.HEAD,
            "deep_supervision_heads": TensorKind.HEAD,
        }
