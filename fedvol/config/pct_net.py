"""PCT-Net in a study."""

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from fedvol.config.base import Section
from fedvol.config.levels import Output, Width
from fedvol.config.monai_networks import NormLayer
from fedvol.types import Triple

DropoutShare = Annotated[float, Field(ge=0, lt=1)]
Heads = Annotated[int, Field(ge=1, le=64)]


@final
class PCTNet(Section):
    """PCT-Net: two levels of convolutions, then three of convolutions beside windowed attention.

    Reference: Wang et al. (2023), MIS-FM, arXiv:2306.16925.
    """

    predicts: ClassVar[Output] = "voxels"
    kind: Literal["pct_net"]
    features: tuple[Width, Width, Width, Width, Width] = (24, 48, 128, 256, 512)
    """Channels of the five stages, finest first."""
    num_heads: tuple[Heads, Heads, Heads] = (4, 8, 16)
    """Attention heads of the three coarser stages; each divides the stage's channels."""
    flat_stages: Literal[0, 1, 2] = 1
    """How many of the two finest stages stay within slices (kernels of 3x3x1, halved along i and j
    alone). By the rule planning has for U-Nets: 0 where voxel edges along k are less than twice
    those along i and j, 1 (the paper's) where less than four times, else 2."""
    norm: NormLayer = "batch"
    """Normalisation before each convolution; the attention has its layer norms in any case."""
    deep_supervision: bool = True
    """Whether coarser decoder stages have a training output of their own."""
    dropout: tuple[DropoutShare, DropoutShare, DropoutShare, DropoutShare, DropoutShare] = (
        0.0,
        0.0,
        0.2,
        0.2,
        0.2,
    )
    """Share of values set to zero in training, for each stage; of its attention too. What is
    dropped follows from the batch, so that a repeated step is the same step."""
    drop_path: DropoutShare = 0.2
    """Share of samples for which a branch of the attention is left out in training."""


def pct_strides(network: PCTNet) -> tuple[Triple, Triple, Triple, Triple]:
    """Downsampling between the five levels, finest first."""
    flat, whole = (2, 2, 1), (2, 2, 2)
    first = flat if network.flat_stages > 0 else whole
    second = flat if network.flat_stages > 1 else whole
    return first, second, whole, whole
