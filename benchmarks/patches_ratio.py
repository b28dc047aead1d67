"""Training batches a second: our store, sampler and augmentation against MONAI's.

Both give the same thing: `batch` patches of one size, each from a case drawn uniformly, one third
of them centred on a labelled voxel, changed by the same ten augmentations with the same
probabilities and ranges, in one thread of one process. MONAI's side is its fast path: every volume
held in memory as float32 (`CacheDataset`, rate 1), indices of labelled voxels found beforehand,
no meta data tracked. `plain_ratio` in the detail is against the same pipeline without the last two,
as in most examples. Ours starts from compressed files. A timed turn has so many steps because a
patch that happens to be rotated costs either side many times one that is not.
"""

import itertools
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from monai import transforms
from monai.data import CacheDataset, DataLoader, set_track_meta
from monai.data.meta_obj import get_track_meta
from scipy import ndimage
from torch import Tensor
from torch.utils.data import RandomSampler

from benchmarks.measurement import Measurement, Paired, Size, in_turns
from fedvol.config.data import Augmentation, Patches
from fedvol.data.batch import Batch
from fedvol.data.case_store import CaseStore
from fedvol.data.preprocess import foreground_voxels
from fedvol.data.sampling import PatchSource
from fedvol.data.volume import PreparedCase
from fedvol.training import threads
from fedvol.types import CaseId, Digest

_AUGMENTATION = Augmentation()
_SHARE = 0.33
_NUM_CLASSES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    shape: tuple[int, int, int]
    cases: int
    side: int
    batch_size: int
    steps: int
    repeats: int


_CASES: dict[Size, _Case] = {
    "tiny": _Case(shape=(20, 20, 20), cases=2, side=16, batch_size=2, steps=2, repeats=1),
    "default": _Case(shape=(192, 192, 128), cases=4, side=96, batch_size=2, steps=40, repeats=7),
    "large": _Case(shape=(320, 320, 240), cases=6, side=128, batch_size=2, steps=40, repeats=5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Volume:
    image: Float32[np.ndarray, "1 i j k"]
    label: UInt8[np.ndarray, "i j k"]


def measure(size: Size) -> Measurement:
    """MONAI's seconds over ours, for the same number of batches."""
    case = _CASES[size]
    generator = np.random.default_rng(7)
    volumes = [_volume(case.shape, generator=generator) for _ in range(case.cases)]
    tracks_meta = get_track_meta()
    set_track_meta(False)
    try:
        with tempfile.TemporaryDirectory() as folder, threads(1):
            ours = _ours(case, volumes, folder=Path(folder))
            steps = itertools.count()

            def compare(theirs: Iterator[tuple[Tensor, Tensor]], *, repeats: int) -> Paired:
                _require_alike(ours.batch(next(steps)), next(theirs), case=case)
                return in_turns(
                    lambda: [ours.batch(next(steps)) for _ in range(case.steps)],
                    baseline=lambda: [next(theirs) for _ in range(case.steps)],
                    repeats=repeats,
                )

            paired = compare(_monais(case, volumes, finds_indices=True), repeats=case.repeats)
            set_track_meta(True)
            plain = compare(_monais(case, volumes, finds_indices=False), repeats=1)
    finally:
        set_track_meta(tracks_meta)
    detail = paired.detail()
    return Measurement(
        name="patches_ratio",
        value=paired.speedup,
        unit="times faster",
        baseline="monai CacheDataset (rate 1, indices cached) + RandCropByPosNegLabeld + its "
        "transforms of the same kinds, probabilities and ranges; one thread",
        detail={
            "shape": "x".join(map(str, case.shape)),
            "cases": case.cases,
            "patch": f"{case.side}^3",
            "batch": case.batch_size,
            "steps": case.steps,
            **detail,
            "batches_per_s": case.steps / float(detail["ours_s"]),
            "baseline_batches_per_s": case.steps / float(detail["baseline_s"]),
            "plain_ratio": plain.speedup,
        },
    )


def _volume(shape: tuple[int, int, int], *, generator: np.random.Generator) -> _Volume:
    """Two organs in soft tissue with the noise of a CT, its window scaled to -1..1."""
    lumps = generator.normal(size=(12, 12, 12)).astype(np.float32)
    factors = [side / 12 for side in shape]
    tissue = ndimage.zoom(lumps, factors, order=1)
    label = (tissue > 0.9).astype(np.uint8) + (tissue > 1.6).astype(np.uint8)
    hounsfield = np.rint(40 + 30 * label + generator.normal(scale=15, size=shape))
    image = (np.clip(hounsfield, -200, 300) - 50) / 250
    return _Volume(image=image.astype(np.float32)[np.newaxis], label=label)


def _ours(case: _Case, volumes: list[_Volume], *, folder: Path) -> PatchSource:
    store = CaseStore(folder)
    for number, volume in enumerate(volumes):
        prepared = PreparedCase(
            image=volume.image,
            label=volume.label,
            affine=np.eye(4),
            reference_label=volume.label,
            reference_shape=case.shape,
            reference_affine=np.eye(4),
            foreground=foreground_voxels(volume.label),
        )
        store.write(CaseId(f"case_{number}"), prepared, key=Digest("0" * 64))
    side = case.side
    return PatchSource(
        [store.open(name) for name in store.cases()],
        patches=Patches(
            size=(side, side, side), batch_size=case.batch_size, foreground_share=_SHARE
        ),
        augmentation=_AUGMENTATION,
        num_classes=_NUM_CLASSES,
        plan=Digest("a" * 64),
        scope=("benchmark",),
        device=torch.device("cpu"),
    )


def _monais(
    case: _Case, volumes: list[_Volume], *, finds_indices: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end; labelled voxels found once for each volume, or for each patch."""
    kept: list[transforms.Transform] = [transforms.EnsureTyped(["image", "label"])]
    if finds_indices:
        kept.append(transforms.FgBgToIndicesd("label"))
    crop = transforms.RandCropByPosNegLabeld(
        ["image", "label"],
        label_key="label",
        spatial_size=[case.side] * 3,
        pos=_SHARE,
        neg=1 - _SHARE,
        num_samples=1,
        fg_indices_key="label_fg_indices" if finds_indices else None,
        bg_indices_key="label_bg_indices" if finds_indices else None,
    )
    chosen = transforms.SelectItemsd(["image", "label"])
    pipeline = transforms.Compose([*kept, crop, chosen, *_augmentations(_AUGMENTATION)])
    pipeline.set_random_state(7)
    dataset = CacheDataset(
        [{"image": v.image, "label": v.label[np.newaxis]} for v in volumes],
        transform=pipeline,
        cache_rate=1.0,
        num_workers=None,
        progress=False,
    )
    torch_generator = torch.Generator().manual_seed(7)
    while True:
        loader = DataLoader(
            dataset,
            batch_size=case.batch_size,
            sampler=RandomSampler(
                dataset,
                replacement=True,
                num_samples=1000 * case.batch_size,
                generator=torch_generator,
            ),
            num_workers=0,
        )
        for batch in loader:
            yield batch["image"], batch["label"][:, 0].long()


def _augmentations(config: Augmentation) -> list[transforms.Transform]:
    """Mirror, rotation, zoom, noise, blur, brightness, contrast, low resolution, gamma."""
    both, modes = ["image", "label"], ["bilinear", "nearest"]
    angle = math.radians(config.rotation_deg)
    return [
        *(transforms.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in config.mirror_axes),
        transforms.RandRotated(
            both,
            range_x=angle,
            range_y=angle,
            range_z=angle,
            prob=config.rotation_probability,
            keep_size=True,
            mode=modes,
            padding_mode="zeros",
        ),
        transforms.RandZoomd(
            both,
            prob=config.scale_probability,
            min_zoom=config.scale[0],
            max_zoom=config.scale[1],
            mode=["trilinear", "nearest"],
            padding_mode="constant",
            keep_size=True,
        ),
        transforms.RandGaussianNoised(
            "image", prob=config.noise_probability, std=math.sqrt(config.noise_variance)
        ),
        transforms.RandGaussianSmoothd(
            "image",
            sigma_x=config.blur_sigma,
            sigma_y=config.blur_sigma,
            sigma_z=config.blur_sigma,
            prob=config.blur_probability,
        ),
        transforms.RandScaleIntensityd(
            "image",
            factors=(config.brightness[0] - 1, config.brightness[1] - 1),
            prob=config.brightness_probability,
        ),
        transforms.RandScaleIntensityFixedMeand(
            "image",
            factors=(config.contrast[0] - 1, config.contrast[1] - 1),
            preserve_range=True,
            prob=config.contrast_probability,
        ),
        transforms.RandSimulateLowResolutiond(
            "image",
            prob=config.low_resolution_probability,
            zoom_range=config.low_resolution,
            downsample_mode="nearest-exact",
        ),
        transforms.RandAdjustContrastd(
            "image",
            prob=config.gamma_invert_probability,
            gamma=config.gamma,
            invert_image=True,
        ),
        transforms.RandAdjustContrastd("image", prob=config.gamma_probability, gamma=config.gamma),
    ]


def _require_alike(ours: Batch, theirs: tuple[Tensor, Tensor], *, case: _Case) -> None:
    image, label = theirs
    sides = (case.side,) * 3
    assert ours.image.shape == image.shape == (case.batch_size, 1, *sides), image.shape
    assert ours.label.shape == label.shape == (case.batch_size, *sides), label.shape
    assert ours.image.dtype == image.dtype == torch.float32
    assert ours.label.dtype == label.dtype == torch.int64
