"""One slice of a pretext task's input, target and output, as three PNGs."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from PIL import Image

from fedvol.report.pictures import Plane, picture_size

PLANES: Final = ("shown", "wanted", "given")
"""The planes in the order in which they stand side by side."""

_RESTORED = "Wanted and given have one grey scale."
_MASKED = (
    "The masked blocks of the input are flat. They alone count in the loss: what is given "
    f"elsewhere means nothing. {_RESTORED}"
)
_MEANING: Final[Mapping[str, str]] = {
    "volume_fusion": (
        "The input is one scan with boxes of another blended in. Wanted is the share of the other "
        "in each voxel, from black for none to white for all; given is the likeliest share."
    ),
    "models_genesis": (
        "Of the input some is shuffled, recoloured or painted over. Every voxel counts in the "
        f"loss. {_RESTORED}"
    ),
    "mae": _MASKED,
    "mae_vit": _MASKED,
    "s3d": _MASKED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PretextPlanes:
    """One slice as it will be shown: rows from top to bottom, columns from left to right.

    Attributes:
        site: Where the case is from.
        case: Its pseudonym.
        shown: What the network saw, grey values, (row, column).
        wanted: What was wanted of it, (row, column).
        given: What it gave, on the grey scale of `wanted`, (row, column).
        spacing_mm: Height and width of one pixel, in millimetres.
        view: Which slice it is, such as `axial slice 9 of 16`.
    """

    site: str
    case: str
    shown: Plane
    wanted: Plane
    given: Plane
    spacing_mm: tuple[float, float]
    view: str

    def __post_init__(self) -> None:
        if self.shown.ndim != 2 or not self.shown.shape == self.wanted.shape == self.given.shape:
            raise ValueError("input, target and output must be planes of one shape")
        if min(self.spacing_mm) <= 0 or 0 in self.shown.shape:
            raise ValueError("a picture needs pixels of positive size")


def plane_png(plane: Plane, *, spacing_mm: tuple[float, float]) -> bytes:
    """Upscale so that a pixel keeps its shape in millimetres; no value is between two voxels'.

    Returns:
        A PNG, grey.
    """
    size = picture_size(plane, spacing_mm=spacing_mm)
    out = io.BytesIO()
    Image.fromarray(plane, mode=None).resize(size, Image.Resampling.NEAREST).save(out, format="PNG")
    return out.getvalue()


def pretext_words(task: str) -> str:
    """What to see in the pictures of a pretext task, and what not."""
    return _MEANING[task]
