"""Classes on the grid the site annotated, from probabilities on the study's grid."""

from pathlib import Path

import numpy as np
import pytest

from fedvol.config.evaluation import Evaluation
from fedvol.data.case_store import CaseStore, StoredCase
from fedvol.data.volume import PreparedCase
from fedvol.errors import TimeLimitError
from fedvol.plan import metric_keys
from fedvol.types import CaseId, Digest, SubjectId
from fedvol.validation.evaluate import evaluate_cases
from fedvol.validation.segmentation import reference_image, segment

KEY = Digest("0" * 64)


def affine(*spacing: float, origin: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = origin
    return matrix


def centred(*spacing: float) -> np.ndarray:
    """An affine whose volume begins at 0 mm, whatever the spacing."""
    return affine(*spacing, origin=tuple(side / 2 for side in spacing))


def stored(
    folder: Path,
    *,
    image: np.ndarray,
    image_affine: np.ndarray,
    label: np.ndarray | None,
    label_affine: np.ndarray,
    name: str = "c1",
) -> StoredCase:
    prepared = PreparedCase(
        image=image,
        label=None if label is None else np.zeros(image.shape[1:], dtype=np.uint8),
        affine=image_affine,
        reference_label=label,
        reference_shape=image.shape[1:] if label is None else label.shape,
        reference_affine=label_affine,
        foreground={},
    )
    store = CaseStore(folder)
    store.write(CaseId(name), prepared, key=KEY)
    return store.open(CaseId(name))


def three_bands(image: np.ndarray) -> np.ndarray:
    """Certain classes by the image's value: below 0.5, below 1.5, above."""
    index = np.clip(np.round(image[0]), 0, 2)
    return np.stack([(index == c).astype(np.float32) for c in range(3)])


def bands(*shape: int) -> np.ndarray:
    """Class 0, 1, 2 in thirds along i."""
    thirds = np.arange(shape[0]) * 3 // shape[0]
    return np.broadcast_to(thirds[:, None, None], shape).astype(np.uint8)


def test_on_one_grid_it_is_the_most_probable_class(tmp_path: Path) -> None:
    truth = bands(6, 4, 4)
    case = stored(
        tmp_path,
        image=truth[None].astype(np.float32),
        image_affine=affine(1, 1, 1),
        label=truth,
        label_affine=affine(1, 1, 1),
    )
    found = segment(three_bands, case=case)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, truth)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((12, 4, 8), (1.0, 2.0, 1.0)), ((3, 8, 2), (4.0, 1.0, 4.0))]
)
def test_on_another_grid_it_lands_in_the_same_place(tmp_path: Path, shape, spacing) -> None:
    case = stored(
        tmp_path,
        image=bands(6, 4, 4)[None].astype(np.float32),
        image_affine=centred(2, 2, 2),
        label=bands(*shape),
        label_affine=centred(*spacing),
    )
    np.testing.assert_array_equal(segment(three_bands, case=case), bands(*shape))


def test_probabilities_are_resampled_and_not_classes(tmp_path: Path) -> None:
    """Between voxels of .9 and .4 for class 1 the edge lies where it falls below one half."""
    case = stored(
        tmp_path,
        image=np.array([0.9, 0.4], dtype=np.float32).reshape(1, 2, 1, 1),
        image_affine=affine(10, 1, 1),
        label=np.zeros((11, 1, 1), dtype=np.uint8),
        label_affine=affine(1, 1, 1),
    )
    found = segment(lambda image: np.stack([1 - image[0], image[0]]), case=case)
    assert found.ravel().tolist() == [1] * 8 + [0] * 3


def test_ties_go_to_the_lower_class_on_either_grid(tmp_path: Path) -> None:
    for index, reference in enumerate((affine(1, 1, 1), affine(0.5, 1, 1))):
        case = stored(
            tmp_path,
            image=np.linspace(0, 1, 8, dtype=np.float32).reshape(1, 2, 2, 2),
            image_affine=affine(1, 1, 1),
            label=np.zeros((2, 2, 2), dtype=np.uint8),
            label_affine=reference,
            name=f"c{index}",
        )
        found = segment(lambda _: np.full((4, 2, 2, 2), 0.25, dtype=np.float32), case=case)
        assert not found.any()


def test_one_class_at_a_time_equals_the_argmax_of_all(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), size=(5, 6, 4)).astype(np.float32)
    probabilities = np.moveaxis(probabilities, -1, 0)
    case = stored(
        tmp_path,
        image=generator.normal(size=(1, 5, 6, 4)).astype(np.float32),
        image_affine=centred(1.5, 1, 2),
        label=np.zeros((9, 5, 7), dtype=np.uint8),
        label_affine=centred(0.8, 1.2, 1.1),
    )
    from fedvol.data.resample import resample

    fine = resample(
        probabilities,
        affine=case.affine,
        shape_out=(9, 5, 7),
        affine_out=case.reference_affine,
        order=1,
    )
    found = segment(lambda _: probabilities, case=case)
    np.testing.assert_array_equal(found, np.argmax(fine, axis=0))
    assert len(np.unique(found)) == 4


def test_a_picture_lies_on_the_grid_as_read(tmp_path: Path) -> None:
    case = stored(
        tmp_path,
        image=bands(6, 4, 4)[None].astype(np.float32),
        image_affine=centred(2, 2, 2),
        label=bands(12, 8, 8),
        label_affine=centred(1, 1, 1),
    )
    found = reference_image(case)
    assert found.shape == (12, 8, 8)
    assert np.abs(found - bands(12, 8, 8)).max() <= 0.5


def test_cases_are_measured_on_the_grid_as_read(tmp_path: Path) -> None:
    truth = bands(12, 8, 8)
    cases = [
        (
            stored(
                tmp_path,
                image=np.maximum(bands(6, 4, 4)[None].astype(np.float32) - missing, 0),
                image_affine=centred(2, 2, 2),
                label=truth,
                label_affine=centred(1, 1, 1),
                name=f"c{missing}",
            ),
            SubjectId(f"s{missing}"),
        )
        for missing in (0, 1)
    ]
    seen = []
    rows = evaluate_cases(
        three_bands,
        cases,
        classes=("inner", "outer"),
        evaluation=Evaluation(nsd_tolerance_mm={"inner": 1.0, "outer": 2.0}),
        metrics=("dice", "nsd"),
        on_case=lambda done, total: seen.append((done, total)),
    )
    assert [(row.case, row.subject) for row in rows] == [("c0", "s0"), ("c1", "s1")]
    assert seen == [(1, 2), (2, 2)]
    assert tuple(rows[0].values) == metric_keys(("dice", "nsd"), ("inner", "outer"))
    assert set(rows[0].values.values()) == {1.0}
    assert rows[1].values["dice"] == rows[1].values["dice/outer"] == 0.0
    assert rows[1].penalised == {"dice", "dice/outer", "nsd", "nsd/outer"}


def test_judging_stops_between_cases(tmp_path: Path) -> None:
    cases = [
        (
            stored(
                tmp_path,
                image=bands(3, 2, 2)[None].astype(np.float32),
                image_affine=affine(1, 1, 1),
                label=bands(3, 2, 2),
                label_affine=affine(1, 1, 1),
                name=f"c{number}",
            ),
            SubjectId(f"s{number}"),
        )
        for number in range(3)
    ]
    judged = []
    with pytest.raises(TimeLimitError, match="after 2 of 3 cases"):
        evaluate_cases(
            three_bands,
            cases,
            classes=("inner", "outer"),
            evaluation=Evaluation(),
            metrics=("dice",),
            on_case=lambda done, total: judged.append(done),
            should_stop=lambda: len(judged) == 2,
        )
    assert judged == [1, 2]


def test_a_case_without_label_is_refused(tmp_path: Path) -> None:
    case = stored(
        tmp_path,
        image=bands(3, 2, 2)[None].astype(np.float32),
        image_affine=affine(1, 1, 1),
        label=None,
        label_affine=affine(1, 1, 1),
    )
    with pytest.raises(ValueError, match="no label"):
        evaluate_cases(
            three_bands,
            [(case, SubjectId("s1"))],
            classes=("inner", "outer"),
            evaluation=Evaluation(),
            metrics=("dice",),
        )


def test_many_classes_with_ties_are_those_of_argmax(tmp_path: Path) -> None:
    case = stored(
        tmp_path,
        image=np.zeros((1, 5, 6, 4), dtype=np.float32),
        image_affine=affine(1, 1, 1),
        label=bands(5, 6, 4),
        label_affine=affine(1, 1, 1),
    )
    levels = np.random.default_rng(0).integers(0, 5, size=(9, 5, 6, 4)).astype(np.float32)
    before = levels.copy()
    found = segment(lambda _: levels, case=case)
    np.testing.assert_array_equal(found, np.argmax(levels, axis=0))
    np.testing.assert_array_equal(levels, before)
