"""Input, target and output of a pretext task: as they are drawn, kept and put in words."""

import io
from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from fedvol.config.pretext import PretextTask
from fedvol.errors import BlobDamagedError
from fedvol.report import load_pictures, load_pretext_pictures, save_pictures
from fedvol.report.pretext_pictures import plane_png, pretext_words

WITHOUT = {"voco", "rotation"}
"""Tasks whose answer is no volume."""


def test_every_task_that_answers_voxels_has_words():
    kinds = {
        get_args(one.model_fields["kind"].annotation)[0]
        for one in get_args(get_args(PretextTask)[0])
    }
    assert kinds > WITHOUT
    for kind in kinds - WITHOUT:
        assert "nput" in pretext_words(kind)


def test_a_plane_keeps_its_values_and_its_shape_in_millimetres():
    plane = np.array([[0, 255], [7, 9]], dtype=np.uint8)
    with Image.open(io.BytesIO(plane_png(plane, spacing_mm=(1.0, 2.0)))) as image:
        assert (image.mode, image.size) == ("L", (480, 240))
        pixels = np.asarray(image)
    assert set(np.unique(pixels)) == {0, 7, 9, 255}
    assert np.array_equal(pixels[60::120, 120::240], plane)


def test_a_file_gives_back_what_was_saved_and_none_is_none(tmp_path, pretext_pictures, pictures):
    path = tmp_path / "pretext-pictures.npz"
    assert load_pretext_pictures(path) == ()
    save_pictures(path, ())
    assert load_pretext_pictures(path) == ()
    save_pictures(path, pretext_pictures)
    back = load_pretext_pictures(path)
    for ours, theirs in zip(back, pretext_pictures, strict=True):
        for field in fields(ours):
            assert np.array_equal(getattr(ours, field.name), getattr(theirs, field.name))
    save_pictures(path, pictures)
    assert load_pictures(path)[0].label == "best"
    with pytest.raises(BlobDamagedError, match="not a file of pictures"):
        load_pretext_pictures(path)


def test_planes_of_other_shapes_are_a_slip(pretext_pictures):
    one = pretext_pictures[0]
    with pytest.raises(ValueError, match="one shape"):
        replace(one, given=one.given[1:])
    with pytest.raises(ValueError, match="positive"):
        replace(one, spacing_mm=(0.0, 1.0))
