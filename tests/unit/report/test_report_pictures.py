import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fedvol.report.pictures import (
    PREDICTION_RGB,
    TRUTH_RGB,
    CasePicture,
    data_uri,
    picture_size,
    render_png,
)


def picture(*, shape=(20, 30), spacing_mm=(1.0, 1.0), truth=(), prediction=()):
    def mask(box):
        labels = np.zeros(shape, dtype=np.uint8)
        if box:
            labels[box[0] : box[1], box[2] : box[3]] = 1
        return labels

    return CasePicture(
        label="best",
        site="north",
        case="n-1",
        metric="Dice 0.900",
        image=np.full(shape, 100, dtype=np.uint8),
        truth=mask(truth),
        prediction=mask(prediction),
        spacing_mm=spacing_mm,
    )


def opened(made):
    return np.asarray(Image.open(io.BytesIO(render_png(made))))


def where(pixels, rgb):
    return np.all(pixels == rgb, axis=-1)


def test_a_pixel_keeps_its_shape_in_millimetres():
    made = picture(shape=(20, 30), spacing_mm=(3.0, 1.0))
    assert picture_size(made.image, spacing_mm=made.spacing_mm) == (240, 480)
    with Image.open(io.BytesIO(render_png(made))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (240, 480))


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.floats(0.2, 6), st.floats(0.2, 6)),
)
@settings(max_examples=30, deadline=None)
def test_nothing_is_shrunk_and_the_aspect_holds(shape, spacing_mm):
    width, height = picture_size(np.zeros(shape, np.uint8), spacing_mm=spacing_mm)
    assert height >= shape[0] - 1
    assert width >= shape[1] - 1
    ratio = (shape[0] * spacing_mm[0]) / (shape[1] * spacing_mm[1])
    assert abs(height - ratio * width) <= 0.51 * (1 + ratio)


def test_a_large_plane_is_not_shrunk():
    plane = np.zeros((512, 512), np.uint8)
    assert picture_size(plane, spacing_mm=(0.7, 0.7)) == (512, 512)


def test_truth_is_a_closed_thin_line_inside_the_structure():
    pixels = opened(picture(truth=(5, 15, 10, 20)))
    line = where(pixels, TRUTH_RGB)
    top, bottom, left, right = 80, 240, 160, 320
    outside = line.copy()
    outside[top:bottom, left:right] = False
    assert not outside.any()
    assert line[top : top + 2, left:right].all()
    assert line[bottom - 2 : bottom, left:right].all()
    assert line[top:bottom, left : left + 2].all()
    assert not line[top + 2 : bottom - 2, left + 2 : right - 2].any()


def test_a_structure_at_the_border_of_the_slice_is_closed_too():
    line = where(opened(picture(truth=(0, 20, 0, 30))), TRUTH_RGB)
    assert line[0].all()
    assert line[:, 0].all()


def test_prediction_is_dashed_and_lies_above_truth():
    pixels = opened(picture(truth=(5, 15, 10, 20), prediction=(5, 15, 10, 20)))
    truth, prediction = where(pixels, TRUTH_RGB), where(pixels, PREDICTION_RGB)
    assert 0.3 < truth.sum() / (truth.sum() + prediction.sum()) < 0.6


def test_touching_classes_are_both_outlined():
    made = picture(truth=(5, 15, 10, 20))
    made.truth[5:15, 15:20] = 2
    line = where(opened(made), TRUTH_RGB)
    assert line[160, 239]
    assert line[160, 240]


def test_an_empty_slice_is_only_grey():
    pixels = opened(picture())
    assert (pixels == 100).all()


def test_the_same_picture_gives_the_same_bytes_and_needs_no_network():
    made = picture(truth=(5, 15, 10, 20))
    assert render_png(made) == render_png(made)
    assert data_uri(render_png(made)).startswith("data:image/png;base64,iVBOR")


def test_planes_of_other_shapes_are_a_slip():
    made = picture()
    with pytest.raises(ValueError, match="one shape"):
        CasePicture(
            label="best",
            site="",
            case="",
            metric="",
            image=made.image,
            truth=made.truth[1:],
            prediction=made.prediction,
            spacing_mm=(1, 1),
        )
    with pytest.raises(ValueError, match="positive"):
        picture(spacing_mm=(0.0, 1.0))
