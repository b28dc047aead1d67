"""What a study asks of each case: channels, labels, splits, and how volumes are prepared."""

from typing import Annotated, Final, Literal, final

from pydantic import Field

from fedvol.config.base import Section

PositiveMm = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Spacing = tuple[PositiveMm, PositiveMm, PositiveMm]


class FoldSplit(Section):
    """Splits by the `fold` column of the case table."""

    kind: Literal["fold"]
    test: Annotated[int, Field(ge=0)]
    """Fold kept for testing; nobody trains or selects on it."""
    validation: Annotated[int, Field(ge=0)]
    """Fold on which the best round is chosen."""


class ColumnSplit(Section):
    """Splits by the `split` column of the case table: `train`, `validation` or `test`."""

    kind: Literal["column"]


class HashSplit(Section):
    """Splits by a salted hash of the subject; for tables without `fold` or `split`."""

    kind: Literal["hash"]
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of each site's subjects kept for testing."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of each site's subjects on which the best round is chosen."""
    salt: str = "fedvol"
    """Changes the split without changing the data."""


Split = Annotated[FoldSplit | ColumnSplit | HashSplit, Field(discriminator="kind")]


class FewLabels(Section):
    """Labels of few training subjects alone, to measure what a study is worth with few of them.

    The labels of all other training subjects are not read: to the study these cases are unlabelled.
    Labels of validation and test subjects stay.
    """

    subjects: Annotated[int, Field(ge=0)] | dict[Name, Annotated[int, Field(ge=0)]]
    """Labelled training subjects of each site, or of the sites named; of other sites none."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Which subjects: with one seed, fewer of them are among more of them."""


class DataRequirement(Section):
    """What each site must have."""

    channels: Annotated[tuple[Name, ...], Field(min_length=1, max_length=16)]
    """Names of the image channels, in order."""
    labels: Annotated[dict[Name, Annotated[int, Field(ge=1, le=254)]], Field(min_length=1)]
    """Class name to value in the label volumes; 0 is background."""
    split: Split
    """How subjects are divided into training, validation and test."""
    few_labels: FewLabels | None = Field(default=None, exclude_if=lambda few: few is None)
    """Labels of few training subjects alone; all of them where this is left out."""
    max_skipped_share: Share = 0.1
    """Share of a site's cases that may be skipped for named faults before the site is refused; one
    skipped case alone never refuses it."""
    max_voxels: Annotated[int, Field(ge=1_000, le=4_000_000_000)] = 512 * 512 * 1024
    """Largest volume accepted, in voxels of one channel."""
    allow_empty_labels: bool = False
    """Whether a label volume of background only is a case (true) or a fault (false)."""


class ZScore(Section):
    """Each channel of each volume minus its mean, divided by its standard deviation."""

    kind: Literal["z_score"]
    foreground_only: bool = False
    """Take mean and deviation over the voxels above the channel's minimum only."""


class Window(Section):
    """CT: clip to a window in Hounsfield units, then scale the window to -1..1."""

    kind: Literal["window"]
    window_hu: tuple[float, float]
    """Lower and upper bound, in Hounsfield units."""


class ClipZScore(Section):
    """CT: clip to a range, then subtract one mean and divide by one deviation for all cases.

    nnU-Net's scheme for CT (Isensee et al. 2021): the values come from labelled voxels of all
    training cases, so that a Hounsfield unit means the same in every volume.
    """

    kind: Literal["clip_z_score"]
    clip_hu: tuple[float, float]
    """Lower and upper bound, in Hounsfield units."""
    mean_hu: float
    """Subtracted from every voxel, in Hounsfield units."""
    deviation_hu: Annotated[float, Field(gt=0)]
    """By which every voxel is divided then, in Hounsfield units."""


Normalisation = Annotated[ZScore | Window | ClipZScore, Field(discriminator="kind")]


@final
class Preprocessing(Section):
    """From a volume as stored to the array a network sees; done once per case."""

    spacing_mm: Spacing
    """Voxel size to which images and labels are resampled, along R, A, S."""
    normalisation: Normalisation
    """How intensities are brought to one scale."""


MIN_PATCH_SIDE: Final = 8
MAX_PATCH_SIDE: Final = 512
MAX_BATCH: Final = 256
PatchSide = Annotated[int, Field(ge=MIN_PATCH_SIDE, le=MAX_PATCH_SIDE)]
PatchSize = tuple[PatchSide, PatchSide, PatchSide]
BatchSize = Annotated[int, Field(ge=1, le=MAX_BATCH)]


class PatchDraws(Section):
    """Abstract: what is never planned of patches."""

    foreground_share: Share = 0.33
    """Share of the patches centred on a labelled voxel, its class drawn uniformly."""


@final
class Patches(PatchDraws):
    """What one training step sees."""

    size: PatchSize
    """Voxels along i, j, k."""
    batch_size: BatchSize
    """Patches in one step."""


Axis = Annotated[int, Field(ge=0, le=2)]


class Augmentation(Section):
    """Random changes of training patches; ranges of the nnU-Net family (Isensee et al. 2021)."""

    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Largest rotation about each axis, degrees."""
    rotation_probability: Share = 0.2
    """Share of patches rotated."""
    scale: tuple[float, float] = (0.7, 1.4)
    """Smallest and largest zoom."""
    scale_probability: Share = 0.2
    """Share of patches zoomed."""
    noise_variance: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest variance of added Gaussian noise, in units of the normalised image."""
    noise_probability: Share = 0.1
    """Share of patches with noise."""
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    """Range of the Gaussian blur, voxels."""
    blur_probability: Share = 0.2
    """Share of patches blurred."""
    brightness: tuple[float, float] = (0.75, 1.25)
    """Range of the factor on intensities."""
    brightness_probability: Share = 0.15
    """Share of patches brightened."""
    contrast: tuple[float, float] = (0.75, 1.25)
    """Range of the factor on the distance from the patch mean."""
    contrast_probability: Share = 0.15
    """Share of patches with changed contrast."""
    low_resolution: tuple[float, float] = (0.5, 1.0)
    """Range of the factor by which a patch is down- and upsampled again."""
    low_resolution_probability: Share = 0.25
    """Share of patches at lower resolution."""
    gamma: tuple[float, float] = (0.7, 1.5)
    """Range of the exponent on intensities scaled to 0..1."""
    gamma_probability: Share = 0.3
    """Share of patches with gamma."""
    gamma_invert_probability: Share = 0.1
    """Share of patches with gamma on the inverted image."""
    mirror_axes: tuple[Axis, ...] = (0, 1, 2)
    """Axes mirrored with probability one half; empty where left and right mean something."""
