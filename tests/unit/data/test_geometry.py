import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.data.geometry import max_distance_mm, require_sound, spacing_of, to_ras
from fedvol.errors import GeometryError


def oblique(angle: float, *, spacing: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> np.ndarray:
    affine = np.eye(4)
    c, s = np.cos(angle), np.sin(angle)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * spacing
    affine[:3, 3] = (-10, 20, 5)
    return affine


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "PIL", "ARS"])
def test_to_ras_agrees_with_nibabel_and_moves_no_voxel(codes: str) -> None:
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    plain = nib.Nifti1Image(array.astype(np.int16), oblique(0.2))
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(plain.affine), nib.orientations.axcodes2ornt(codes)
    )
    stored = plain.as_reoriented(turn)
    found, affine = to_ras(np.asarray(stored.dataobj), affine=stored.affine)
    expected = nib.as_closest_canonical(stored)
    np.testing.assert_array_equal(found, np.asarray(expected.dataobj))
    np.testing.assert_allclose(affine, expected.affine)
    np.testing.assert_array_equal(found, array)
    np.testing.assert_allclose(affine, plain.affine, atol=1e-9)


def test_channels_keep_their_place() -> None:
    array = np.arange(4 * 5 * 6 * 2).reshape(4, 5, 6, 2)
    found, _ = to_ras(array, affine=np.diag([-1.0, 1, 1, 1]))
    np.testing.assert_array_equal(found, array[::-1])


@settings(max_examples=30, deadline=None)
@given(
    st.floats(-3, 3),
    st.tuples(*[st.floats(0.1, 10)] * 3),
    st.lists(st.floats(-0.2, 0.2), min_size=12, max_size=12),
)
def test_the_largest_distance_is_at_a_corner(
    angle: float, spacing: tuple[float, float, float], noise: list[float]
) -> None:
    first = oblique(angle, spacing=spacing)
    second = first.copy()
    second[:3] += np.reshape(noise, (3, 4))
    index = np.stack(np.meshgrid(*map(range, (3, 4, 5)), indexing="ij"), -1).reshape(-1, 3)
    places = [index @ a[:3, :3].T + a[:3, 3] for a in (first, second)]
    everywhere = np.linalg.norm(places[0] - places[1], axis=1).max()
    assert max_distance_mm(first, second, shape=(3, 4, 5)) == pytest.approx(everywhere, abs=1e-9)


def test_oblique_is_sound_and_keeps_its_spacing() -> None:
    require_sound(oblique(0.7), where="x")
    np.testing.assert_allclose(spacing_of(oblique(0.7)), (1, 2, 3))


def changed(row: int, column: int, value: float) -> np.ndarray:
    affine = np.eye(4)
    affine[row, column] = value
    return affine


@pytest.mark.parametrize(
    ("affine", "expected"),
    [
        (changed(0, 3, np.nan), "NaN or infinite"),
        (changed(1, 1, np.inf), "NaN or infinite"),
        (changed(1, 1, 0.0), "1x0x1 mm is not within"),
        (np.diag([1.0, 1, 101, 1]), "1x1x101 mm is not within"),
        (changed(0, 1, 1e6)[[1, 0, 2, 3]], "is not within"),
        (np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
        (changed(0, 1, 0.05), "sheared by"),
    ],
)
def test_impossible_affines_are_refused(affine: np.ndarray, expected: str) -> None:
    with pytest.raises(GeometryError, match=expected) as caught:
        require_sound(affine, where="file x")
    assert str(caught.value).startswith("FV-DATA-008 file x: ")
