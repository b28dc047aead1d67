"""MONAI's networks behind the contract of ours."""

from collections.abc import Mapping
from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from fedvol.config.levels import NormKind
from fedvol.config.patch_rule import PatchRule
from fedvol.errors import NetworkConfigError
from fedvol.models.blocks import Features
from fedvol.models.convolution import Conv3d
from fedvol.models.grid import require_grid
from fedvol.models.norms import build_norm
from fedvol.plan import TensorKind
from fedvol.types import Triple


@final
class MonaiAdapter(nn.Module):
    """A network with one output, which gives it as a tuple and says what its modules are.

    Args:
        net: The network; its names follow `net.`.
        parts: Kind of the tensors below each of its modules named, `net.` left out.
        deepest: Name of the module that ends the encoder, `net.` left out.
        rule: Grids it can take.
        patch: The only grid it can take, where there is one.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        parts: Mapping[str, TensorKind],
        deepest: str,
        rule: PatchRule,
        patch: Triple | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self._parts = {f"net.{name}": kind for name, kind in parts.items()}
        self._deepest = deepest
        self._rule = rule
        self._patch = patch

    @property
    def deepest(self) -> nn.Module:
        """The module that ends the encoder; gives features on a grid, or tokens."""
        return self.net.get_submodule(self._deepest)

    def forward(self, x: Features) -> tuple[Float[Tensor, "batch class ..."], ...]:
        """Logits, one output: of each voxel, or of the volume.

        Raises:
            NetworkConfigError: The network cannot take this grid.
        """
        require_grid(x, multiple_of=self._rule.multiple_of, least=self._rule.least)
        grid = tuple(x.shape[2:])
        if self._patch is not None and grid != self._patch:
            raise NetworkConfigError(
                "patches.size",
                f"a patch of {grid} voxels was put into a network for {self._patch}",
                "Use the patch the network was built for.",
            )
        return (self.net(x),)

    def parts(self) -> Mapping[str, TensorKind]:
        """Kind of the tensors below each module named, norm layers aside."""
        return self._parts


def adopt_layers(net: nn.Module, *, norm: NormKind) -> None:
    """Give a network our convolutions, and norm layers of the kind asked for.

    Convolutions keep names, weights and mathematics. Norm layers over feature maps become affine
    ones of ours; those of the kind already there stay, and so does the grouping of a group norm.
    Layer norms of transformers are left alone.
    """
    for module in net.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = Conv3d
        for name, child in list(module.named_children()):
            num_channels = _normalised_channels(child)
            if num_channels is not None and not isinstance(child, _SAME.get(norm, ())):
                setattr(module, name, build_norm(norm, num_channels=num_channels))


_SAME: Mapping[NormKind, type[nn.Module]] = {"group": nn.GroupNorm, "batch": nn.BatchNorm3d}


def _normalised_channels(module: nn.Module) -> int | None:
    match module:
        case nn.BatchNorm3d() | nn.InstanceNorm3d():
            return module.num_features
        case nn.GroupNorm():
            return module.num_channels
        case _:
            return None
