"""Generated hospitals: small 3D bodies with liver, kidneys and lesions, to try a study on.

No real patient and no claim of realism: contrast, scale and shape are roughly those of abdominal
CT, in a body small enough to train on in minutes. Each hospital differs on purpose.
"""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int16, UInt8
from numpy.typing import NDArray
from scipy import ndimage

from fedvol.data.nifti_writing import write_nifti
from fedvol.files import write_atomic
from fedvol.plan import derive_seed, digest_json
from fedvol.types import Digest

PHANTOM_LABELS = MappingProxyType({"liver": 1, "kidney": 2, "lesion": 3})
"""Class name to value in the generated label volumes."""

NUM_FOLDS = 5
"""Folds of the generated case tables; each hospital has subjects in all of them."""

_EXTENT_MM = (112.0, 92.0, 92.0)
_HU = MappingProxyType(
    {
        "air": -1000,
        "fat": -100,
        "muscle": 55,
        "bone": 400,
        "liver": 115,
        "kidney": 190,
        "lesion": 45,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hospital:
    """One generated site.

    Attributes:
        name: Its folder and the `site` column.
        num_cases: Imaging studies.
        num_subjects: Patients; at least five, at most one study each fewer than twice as many.
        spacing_mm: Voxel size along i, j, k.
        shape: Voxels along i, j, k.
        noise_hu: Deviation of the noise.
        blur_mm: Deviation of the scanner's blur.
        scale: Factor on all intensities.
        offset_hu: Added to all intensities afterwards.
        lesion_prevalence: Share of the cases with lesions.
        kidney_prevalence: Share of the subjects who have kidneys.
        gamma: Exponent on intensities over their own range, before `scale`.
        num_validation: Subjects marked `validation` in the table's column `split`.
        num_test: Those marked `test`, the others `train`; both 0: the table has no such column.
    """

    name: str
    num_cases: int
    num_subjects: int
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    noise_hu: float
    blur_mm: float
    scale: float
    offset_hu: float
    lesion_prevalence: float
    kidney_prevalence: float = 1.0
    gamma: float = 1.0
    num_validation: int = 0
    num_test: int = 0

    def __post_init__(self) -> None:
        if not NUM_FOLDS <= self.num_subjects <= self.num_cases <= 2 * self.num_subjects:
            raise ValueError(
                f"{self.name}: {self.num_subjects} subjects with {self.num_cases} cases; "
                f"wanted {NUM_FOLDS} <= subjects <= cases <= 2 x subjects"
            )
        if self.num_held_out >= self.num_subjects:
            raise ValueError(
                f"{self.name}: {self.num_held_out} of {self.num_subjects} subjects held out "
                "leave none to train on"
            )

    @property
    def num_held_out(self) -> int:
        """Subjects that the column `split` keeps from training."""
        return self.num_validation + self.num_test


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomCase:
    """One generated case: image (i, j, k), label (i, j, k), affine."""

    image: Int16[np.ndarray, "i j k"]
    label: UInt8[np.ndarray, "i j k"]
    affine: Float[np.ndarray, "4 4"]


def default_hospitals(num_sites: int, num_cases: int) -> tuple[Hospital, ...]:
    """Hospitals that differ in size, voxels, noise, sharpness, intensities and prevalence.

    Args:
        num_sites: How many.
        num_cases: Cases of the largest; the smallest has about three fifths, never fewer than
            six.
    """
    spacings = ((2.0, 2.0, 2.0), (2.3, 2.3, 3.0), (1.9, 1.9, 2.5), (2.5, 2.5, 2.5))
    noises_hu = (12.0, 25.0, 18.0, 35.0)
    blurs_mm = (0.6, 1.5, 1.0, 2.2)
    scales = (1.0, 1.1, 0.9, 1.0)
    offsets_hu = (0.0, 20.0, -15.0, 40.0)
    prevalences = (0.6, 0.8, 0.5, 0.7)
    shares = (1.0, 0.8, 0.6, 0.9)
    hospitals: list[Hospital] = []
    for index in range(num_sites):
        kind = index % len(spacings)
        cases = max(NUM_FOLDS + 1, round(num_cases * shares[kind]))
        spacing = spacings[kind]
        i, j, k = (round(mm / edge) for mm, edge in zip(_EXTENT_MM, spacing, strict=True))
        hospitals.append(
            Hospital(
                name=f"hospital_{index + 1}",
                num_cases=cases,
                num_subjects=cases - max(1, cases // 6),
                spacing_mm=spacing,
                shape=(i, j, k),
                noise_hu=noises_hu[kind],
                blur_mm=blurs_mm[kind],
                scale=scales[kind],
                offset_hu=offsets_hu[kind],
                lesion_prevalence=prevalences[kind],
            )
        )
    return tuple(hospitals)


def generate_hospitals(folder: Path, *, hospitals: tuple[Hospital, ...], seed: int) -> None:
    """Write `folder/<hospital>/cases.csv`, `images/` and `labels/`; same arguments, same bytes.

    Some subjects have two cases, and share a fold and a split. A hospital's
    content depends on its own description and the seed only, not on the other hospitals.

    Args:
        folder: Where the hospitals' folders are made.
        hospitals: What to make.
        seed: Any whole number.

    Raises:
        DiskFullError: No space is left.
        StoreError: The folder cannot be written.
    """
    root = digest_json(["phantom", seed])
    for hospital in hospitals:
        home = folder / hospital.name
        rng = _rng(root, hospital.name, "table")
        folds = rng.permutation(np.arange(hospital.num_subjects) % NUM_FOLDS)
        num_lesion_cases = round(hospital.lesion_prevalence * hospital.num_cases)
        has_lesions = rng.permutation(np.arange(hospital.num_cases) < num_lesion_cases)
        num_kidney_subjects = round(hospital.kidney_prevalence * hospital.num_subjects)
        has_kidneys = rng.permutation(np.arange(hospital.num_subjects) < num_kidney_subjects)
        splits = [f",{split}" for split in rng.permutation(_splits(hospital))]
        lines = ["case,subject,site,fold" + (",split" if hospital.num_held_out else "")]
        for number in range(hospital.num_cases):
            # The first subjects come a second time once every subject was there.
            subject = number % hospital.num_subjects
            case = f"{hospital.name}_{number + 1:03d}"
            lines.append(
                f"{case},{hospital.name}_s{subject + 1:03d},{hospital.name},{folds[subject]}"
                + (splits[subject] if hospital.num_held_out else "")
            )
            made = phantom_case(
                hospital,
                anatomy=_rng(root, hospital.name, "subject", subject),
                study=_rng(root, hospital.name, "case", number),
                has_lesions=bool(has_lesions[number]),
                has_kidneys=bool(has_kidneys[subject]),
            )
            name = f"{case}.nii.gz"
            write_nifti(home / "images" / name, made.image[np.newaxis], affine=made.affine)
            write_nifti(home / "labels" / name, made.label[np.newaxis], affine=made.affine)
        write_atomic(home / "cases.csv", ("\n".join(lines) + "\n").encode())


def phantom_case(
    hospital: Hospital,
    *,
    anatomy: np.random.Generator,
    study: np.random.Generator,
    has_lesions: bool,
    has_kidneys: bool = True,
) -> PhantomCase:
    """One body as one hospital images it.

    Args:
        hospital: Grid, noise, blur and intensities.
        anatomy: Draws what belongs to the patient; seeded alike for all of a patient's cases.
        study: Draws what belongs to the examination: position, lesions, noise.
        has_lesions: Whether the liver has lesions.
        has_kidneys: Whether the patient has kidneys.
    """
    affine = np.diag([*hospital.spacing_mm, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(hospital.shape) - 1) / 2)
    axes = [
        np.arange(side) * edge + first
        for side, edge, first in zip(
            hospital.shape, hospital.spacing_mm, affine[:3, 3], strict=True
        )
    ]
    points_mm = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    points_mm -= study.uniform(-3, 3, size=3)

    hu = np.full(hospital.shape, float(_HU["air"]))
    label = np.zeros(hospital.shape, dtype=np.uint8)
    build = anatomy.uniform(0.93, 1.07, size=3)
    body = np.array([49.0, 38.0, 300.0]) * build
    hu[_ellipsoid(points_mm, centre=(0, 0, 0), radii=body)] = _HU["fat"]
    inner = _ellipsoid(points_mm, centre=(0, 0, 0), radii=body - anatomy.uniform(4, 8))
    hu[inner] = _HU["muscle"]
    hu[_ellipsoid(points_mm, centre=(0, -24 * build[1], 0), radii=(6, 6, 300))] = _HU["bone"]

    liver_centre = np.array([18, 6, 8]) * build + anatomy.uniform(-3, 3, size=3)
    liver_radii = np.array([21, 19, 25]) * anatomy.uniform(0.85, 1.15, size=3)
    liver = _ellipsoid(points_mm, centre=liver_centre, radii=liver_radii) & inner
    # A flat underside, as a real liver has: the shape is not merely an ellipsoid.
    slope = anatomy.uniform(0.2, 0.6)
    liver &= (points_mm - liver_centre) @ np.array([slope, 0, 1]) > -0.55 * liver_radii[2]
    hu[liver], label[liver] = _HU["liver"] + anatomy.uniform(-12, 12), PHANTOM_LABELS["liver"]

    for side in (-1, 1):
        centre = np.array([side * 19, -17, -14]) * build + anatomy.uniform(-2, 2, size=3)
        radii = np.array([7, 8, 15]) * anatomy.uniform(0.85, 1.15, size=3)
        if has_kidneys:
            kidney = _ellipsoid(points_mm, centre=centre, radii=radii) & inner & ~liver
            hu[kidney], label[kidney] = _HU["kidney"], PHANTOM_LABELS["kidney"]

    if has_lesions:
        lesion = _lesions(points_mm, liver=liver, rng=study)
        hu[lesion], label[lesion] = _HU["lesion"], PHANTOM_LABELS["lesion"]

    image = _scan(hu, hospital=hospital, rng=study)
    return PhantomCase(image=image, label=label, affine=affine)


def _lesions(
    points_mm: Float[np.ndarray, "i j k 3"],
    *,
    liver: Bool[np.ndarray, "i j k"],
    rng: np.random.Generator,
) -> Bool[np.ndarray, "i j k"]:
    """One to three round lesions inside the liver; at least one voxel each."""
    out = np.zeros_like(liver)
    candidates = np.argwhere(liver)
    for _ in range(int(rng.integers(1, 4))):
        centre_mm = points_mm[tuple(candidates[int(rng.integers(len(candidates)))])]
        radii = rng.uniform(4.5, 9.0) * rng.uniform(0.85, 1.15, size=3)
        out |= _ellipsoid(points_mm, centre=centre_mm, radii=radii)
    return out & liver


def _scan(
    hu: NDArray[np.float64], *, hospital: Hospital, rng: np.random.Generator
) -> Int16[np.ndarray, "i j k"]:
    """Texture, blur, noise, then the hospital's own curve and scale of intensities."""
    shape = hospital.shape
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 2.0)
    tissue = np.where(hu > _HU["air"], hu + 8 * texture / texture.std(), hu)
    sigma = [hospital.blur_mm / edge for edge in hospital.spacing_mm]
    blurred = ndimage.gaussian_filter(tissue, sigma, mode="nearest")
    noisy = blurred + rng.normal(scale=hospital.noise_hu, size=shape)
    if hospital.gamma != 1.0:
        low, extent = noisy.min(), np.ptp(noisy)
        noisy = ((noisy - low) / extent) ** hospital.gamma * extent + low
    scaled = noisy * hospital.scale + hospital.offset_hu
    return np.clip(np.rint(scaled), -32768, 32767).astype(np.int16)


def _splits(hospital: Hospital) -> list[str]:
    """What each subject is for, to be shuffled."""
    num_train = hospital.num_subjects - hospital.num_held_out
    held_out = ["validation"] * hospital.num_validation + ["test"] * hospital.num_test
    return ["train"] * num_train + held_out


def _ellipsoid(
    points_mm: Float[np.ndarray, "i j k 3"],
    *,
    centre: tuple[float, float, float] | NDArray[np.floating],
    radii: tuple[float, float, float] | NDArray[np.floating],
) -> Bool[np.ndarray, "i j k"]:
    return (((points_mm - np.asarray(centre)) / np.asarray(radii)) ** 2).sum(axis=-1) <= 1


def _rng(root: Digest, *scope: str | int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(root, *scope))
