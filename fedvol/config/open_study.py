"""The study file as people write it: values it leaves out are planned from the sites' data.

Each section that may have gaps stands here and without them where its neighbours are. The two share
an abstract section of the keys that are never planned, so that neither is taken for the other.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar, final

from pydantic import Field

from fedvol.config.base import Section
from fedvol.config.data import BatchSize, Normalisation, PatchDraws, PatchSize, Spacing
from fedvol.config.levels import Blocks, LevelKernels, LevelStrides, Widths, default_strides
from fedvol.config.monai_networks import MonaiNetwork
from fedvol.config.network import PlainUNet, ResidualEncoder, ResidualEncoderPreset
from fedvol.config.pct_net import PCTNet
from fedvol.config.study import Question

Value = TypeVar("Value")


@final
@dataclass(frozen=True, slots=True)
class Planned:
    """Marks a key that a study may leave to planning."""


PLANNED: Final = Planned()
OrPlanned = Annotated[Value | None, PLANNED]


@final
class OpenPreprocessing(Section):
    """From a volume as stored to the array a network sees; done once per case."""

    spacing_mm: OrPlanned[Spacing] = None
    """Voxel size to which images and labels are resampled, along R, A, S."""
    normalisation: OrPlanned[Normalisation] = None
    """How intensities are brought to one scale."""


@final
class OpenPatches(PatchDraws):
    """What one training step sees."""

    size: OrPlanned[PatchSize] = None
    """Voxels along i, j, k."""
    batch_size: OrPlanned[BatchSize] = None
    """Patches in one step."""


class OpenLists(Section):
    """Abstract: lists with an entry for each level that may be planned."""

    features: OrPlanned[Widths] = None
    """Channels per stage, finest first."""
    strides: OrPlanned[LevelStrides] = None
    """Downsampling on entering each stage, the first 1; default 2 from the second stage on.
    Planned where `features` is left out."""
    kernels: OrPlanned[LevelKernels] = None
    """Kernel of each stage; default 3 along every axis. Planned where `features` is left out."""

    @property
    def fixed_strides(self) -> LevelStrides | None:
        """The strides as written, or their default beside `features`; None: they are planned."""
        if self.strides is None and self.features is not None:
            return default_strides(len(self.features))
        return self.strides


@final
class OpenUNet(PlainUNet, OpenLists):
    """Plain 3D U-Net (Çiçek et al. 2016; nnU-Net, Isensee et al. 2021)."""


@final
class OpenResidualEncoderUNet(ResidualEncoder, OpenLists):
    """U-Net with a residual encoder (nnU-Net revisited, Isensee et al. 2024)."""

    blocks_per_stage: OrPlanned[Blocks] = None
    """Residual blocks in each encoder stage."""


PlannedNetwork = OpenUNet | OpenResidualEncoderUNet
"""Networks whose shape may be planned."""

OpenNetwork = Annotated[
    OpenUNet | OpenResidualEncoderUNet | ResidualEncoderPreset | PCTNet | MonaiNetwork,
    Field(discriminator="kind"),
]


class Planning(Section):
    """What planning may assume of the sites; needed only where patches are left to it."""

    memory_gib: Annotated[float, Field(ge=1, le=1024)] = 8.0
    """Memory for training that every site must have, in GiB: of its GPU, or main memory on CPU."""


@final
class OpenStudy(Question):
    """One question put to a federation: what to learn, from which cases, how, and how judged."""

    preprocessing: OpenPreprocessing = OpenPreprocessing()
    """How volumes are prepared."""
    patches: OpenPatches = OpenPatches()
    """What one training step sees."""
    network: OpenNetwork
    """Which network is trained."""
    planning: Planning = Planning()
    """What planning may assume, where values are left to it."""

    @property
    def open_keys(self) -> tuple[str, ...]:
        """Keys that are left to planning, in the order in which they are planned."""
        network, keys = self.network, list[str]()
        if self.preprocessing.spacing_mm is None:
            keys.append("preprocessing.spacing_mm")
        if self.preprocessing.normalisation is None:
            keys.append("preprocessing.normalisation")
        if self.patches.size is None:
            keys.append("patches.size")
        if isinstance(network, PlannedNetwork) and network.features is None:
            keys.append("network.features")
            keys += [
                f"network.{name}"
                for name in ("strides", "kernels")
                if getattr(network, name) is None
            ]
        if isinstance(network, OpenResidualEncoderUNet) and network.blocks_per_stage is None:
            keys.append("network.blocks_per_stage")
        if self.patches.batch_size is None:
            keys.append("patches.batch_size")
        return tuple(keys)


def is_ct(channel: str) -> bool:
    """Whether a channel's name says that it holds Hounsfield units: CT, or CT with a suffix."""
    name = channel.upper()
    return name == "CT" or name.startswith(("CT_", "CT-", "CT."))


def is_planned(metadata: list[Any]) -> bool:
    """Whether a field's metadata mark it as one that may be planned."""
    return any(isinstance(item, Planned) for item in metadata)
