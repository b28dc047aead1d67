"""Where voxels lie: affines of NIfTI headers, their soundness, one orientation, equal grids."""

from typing import Final

import nibabel as nib
import numpy as np
from jaxtyping import Float, Shaped
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from fedvol.errors import GeometryError

GRID_TOLERANCE_MM: Final = 1e-3
"""Two grids whose voxels lie closer than this everywhere are one grid.

A header's float32 affine places the far corner of half a metre to about 1e-4 mm, and programs that
write one grid twice differ by a few of those; a hundredth of the finest voxel (0.1 mm) is far more
than either, and far less than any interpolation shows.
"""

MAX_SPACING_MM: Final = 100.0
"""Largest voxel edge believed."""

_MAX_SHEAR: Final = 1e-3
"""Largest cosine between two voxel axes; gantry tilt is far above, float32 rounding far below."""

_FORM_TOLERANCE: Final = 0.25
"""How far qform and sform may lie apart, in voxels: a quaternion in float32 is that coarse for
rotations near 180 degrees, while a flip, a swap or a shift by a voxel is above."""

_UNITS: Final = {1: "metres", 3: "micrometres"}
_FIX: Final = "Write the true geometry into the header, or convert the volume again."


def affine_of(
    header: nib.Nifti1Header, *, shape: tuple[int, int, int], where: str
) -> Float[np.ndarray, "4 4"]:
    """Voxel index to millimetres, from a header that has not been mended.

    Args:
        header: As read, unchecked.
        shape: Voxels along the first three axes.
        where: File, for messages.

    Raises:
        GeometryError: The header gives no geometry, two, or one that cannot be.
    """
    unit = _UNITS.get(int(header["xyzt_units"]) & 7)
    if unit is not None:
        raise GeometryError(where, f"lengths are in {unit}", "Convert the header to millimetres.")
    sform = header.get_sform(coded=True)[0]
    qform = _qform(header, where=where)
    if sform is None and qform is None:
        raise GeometryError(
            where,
            "neither qform nor sform says how the grid lies, so left and right are unknown",
            _FIX,
        )
    for affine in (sform, qform):
        if affine is not None:
            require_sound(affine, where=where)
    if sform is not None and qform is not None:
        distance = max_distance_mm(sform, qform, shape=shape)
        if distance > _FORM_TOLERANCE * spacing_of(sform).min():
            raise GeometryError(where, f"qform and sform lie up to {distance:.3g} mm apart", _FIX)
    chosen = sform if sform is not None else qform
    assert chosen is not None
    return np.asarray(chosen, dtype=np.float64)


def require_sound(affine: Float[np.ndarray, "4 4"], *, where: str) -> None:
    """Refuse an affine that maps no box of voxels to space.

    Raises:
        GeometryError: It is not finite, singular, sheared, or its spacing is not in 0..100 mm.
    """
    if not np.isfinite(affine).all():
        raise GeometryError(where, "the affine holds NaN or infinite numbers", _FIX)
    spacing = spacing_of(affine)
    text = "x".join(f"{edge:.4g}" for edge in spacing)
    if (spacing < 1e-6).any() or (spacing > MAX_SPACING_MM).any():
        raise GeometryError(
            where, f"the spacing {text} mm is not within 0 to {MAX_SPACING_MM:g} mm", _FIX
        )
    axes = affine[:3, :3] / spacing
    if abs(np.linalg.det(axes)) < 1e-3:
        raise GeometryError(where, "the affine is singular: two voxel axes are one", _FIX)
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    if cosine > _MAX_SHEAR:
        degrees = np.degrees(np.arcsin(min(cosine, 1.0)))
        raise GeometryError(
            where,
            f"the voxel axes are sheared by {degrees:.2g} degrees",
            "Resample the volume to a rectangular grid, for example to undo a gantry tilt.",
        )


def spacing_of(affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "3"]:
    """Edge lengths of a voxel along the three axes, millimetres."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def max_distance_mm(
    first: Float[np.ndarray, "4 4"],
    second: Float[np.ndarray, "4 4"],
    *,
    shape: tuple[int, int, int],
) -> float:
    """Largest distance between the places two affines give one voxel of a grid.

    The distance is convex in the index, so a corner of the grid has the largest.
    """
    i, j, k = (max(side - 1, 0) for side in shape)
    corners = np.array([(a, b, c, 1) for a in (0, i) for b in (0, j) for c in (0, k)], dtype=float)
    offsets = corners @ (np.asarray(first) - np.asarray(second)).T
    return float(np.linalg.norm(offsets[:, :3], axis=1).max())


def to_ras(
    array: Shaped[np.ndarray, "i j k *rest"], *, affine: Float[np.ndarray, "4 4"]
) -> tuple[Shaped[np.ndarray, "x y z *rest"], Float[np.ndarray, "4 4"]]:
    """Permute and flip axes so that i grows to the right, j to the front, k up."""
    orientation = io_orientation(affine)
    turned = affine @ inv_ornt_aff(orientation, array.shape[:3])
    return apply_orientation(array, orientation), np.asarray(turned, dtype=np.float64)


def _qform(header: nib.Nifti1Header, *, where: str) -> Float[np.ndarray, "4 4"] | None:
    if int(header["qform_code"]) <= 0:
        return None
    if header["pixdim"][0] == 0:  # the standard reads 0 as 1
        header["pixdim"][0] = 1
    try:
        return np.asarray(header.get_qform(coded=False))
    except Exception as error:  # nibabel names no base class for a bad quaternion
        raise GeometryError(where, f"the qform is wrong ({error})", _FIX) from error
