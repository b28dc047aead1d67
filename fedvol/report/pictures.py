"""One slice of one test case with the outlines of truth and prediction, as PNG."""

import base64
import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TRUTH_RGB = (86, 180, 233)
"""Sky blue of the colour-blind-safe palette of Okabe and Ito (2008)."""
PREDICTION_RGB = (240, 165, 0)
"""Orange of the same palette, a little brighter on grey."""

_LONG_SIDE_PX = 480
_LINE_PX = 2
_DASH_PX, _PERIOD_PX = 8, 14

_STEPS = tuple(
    (sign * px * down, sign * px * (1 - down))
    for sign in (-1, 1)
    for px in range(1, _LINE_PX + 1)
    for down in (0, 1)
)

Plane = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class CasePicture:
    """One slice as it will be shown: rows from top to bottom, columns from left to right.

    Attributes:
        label: Which case of the federated model's test cases it is.
        site: Where the case is from.
        case: Its pseudonym.
        metric: Metric and value as printed, such as `Dice 0.912`.
        image: Grey values, (row, column).
        truth: Class indices by a human, (row, column); 0 is background.
        prediction: Class indices by the model, (row, column).
        spacing_mm: Height and width of one pixel, in millimetres.
        view: Which slice it is, such as `axial slice 31 of 60`; may be empty.
    """

    label: Literal["best", "median", "worst"]
    site: str
    case: str
    metric: str
    image: Plane
    truth: NDArray[np.integer]
    prediction: NDArray[np.integer]
    spacing_mm: tuple[float, float]
    view: str = ""

    def __post_init__(self) -> None:
        if self.image.ndim != 2 or not (
            self.image.shape == self.truth.shape == self.prediction.shape
        ):
            raise ValueError("image, truth and prediction must be planes of one shape")
        if min(self.spacing_mm) <= 0 or 0 in self.image.shape:
            raise ValueError("a picture needs pixels of positive size")


def render_png(picture: CasePicture) -> bytes:
    """Upscale so that a pixel keeps its shape in millimetres, and draw thin outlines.

    Lines lie inside their structure, two of the picture's pixels wide: about one on the page.
    Truth is a solid line, prediction a dashed one above it; where both agree the colours alternate.

    Returns:
        A PNG, RGB.
    """
    width, height = picture_size(picture.image, spacing_mm=picture.spacing_mm)
    grey = Image.fromarray(picture.image, mode=None).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    canvas = np.repeat(np.asarray(grey, dtype=np.uint8)[..., None], 3, axis=2)
    canvas[_outline(picture.truth, width=width, height=height)] = TRUTH_RGB
    prediction = _outline(picture.prediction, width=width, height=height)
    canvas[prediction & _dashes(width=width, height=height)] = PREDICTION_RGB
    out = io.BytesIO()
    Image.fromarray(canvas).save(out, format="PNG")
    return out.getvalue()


def picture_size(plane: Plane, *, spacing_mm: tuple[float, float]) -> tuple[int, int]:
    """Width and height of the PNG: the long side about 480 pixels, and nothing is shrunk.

    Args:
        plane: What it shows, (row, column).
        spacing_mm: Height and width of one of the plane's pixels, in millimetres.
    """
    rows, columns = plane.shape
    height_mm, width_mm = rows * spacing_mm[0], columns * spacing_mm[1]
    px_per_mm = max(_LONG_SIDE_PX / max(height_mm, width_mm), 1 / min(spacing_mm))
    return max(1, round(width_mm * px_per_mm)), max(1, round(height_mm * px_per_mm))


def data_uri(png: bytes) -> str:
    """A PNG as an address that needs no network."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _outline(labels: NDArray[np.integer], *, width: int, height: int) -> NDArray[np.bool_]:
    rows = (np.arange(height) * labels.shape[0]) // height
    columns = (np.arange(width) * labels.shape[1]) // width
    large = labels[np.ix_(rows, columns)]
    padded = np.pad(large, _LINE_PX)
    edge = np.zeros(large.shape, dtype=np.bool_)
    for down, right in _STEPS:
        top, left = _LINE_PX + down, _LINE_PX + right
        edge |= padded[top : top + height, left : left + width] != large
    return edge & (large > 0)


def _dashes(*, width: int, height: int) -> NDArray[np.bool_]:
    diagonal = np.add.outer(np.arange(height), np.arange(width))
    return diagonal % _PERIOD_PX < _DASH_PX
