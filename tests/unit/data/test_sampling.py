from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.config.data import Augmentation, Patches
from fedvol.data.case_store import CaseStore, StoredCase
from fedvol.data.decoded import DecodedCases
from fedvol.data.preprocess import foreground_voxels
from fedvol.data.sampling import PatchSource, patch_start
from fedvol.data.volume import PreparedCase
from fedvol.errors import CaseStoreError, NoCasesError
from fedvol.types import CaseId, Digest

PLAN = Digest("a" * 64)
KEY = Digest("0" * 64)
CPU = torch.device("cpu")
SHAPES = {"one": (20, 9, 14), "two": (12, 12, 12), "three": (8, 30, 16)}


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[StoredCase]:
    """Three cases; every voxel's value says where it is, so a patch can be traced."""
    store = CaseStore(tmp_path_factory.mktemp("cases"))
    for number, (name, shape) in enumerate(SHAPES.items()):
        label = np.zeros(shape, np.uint8)
        label[2:5, 3:6, 4:7] = 1
        if name != "two":
            label[6, 6, 6] = 2
        image = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape) + 1
        store.write(
            CaseId(name),
            PreparedCase(
                image=image + 10_000 * number,
                label=label,
                affine=np.eye(4),
                reference_label=label,
                reference_shape=shape,
                reference_affine=np.eye(4),
                foreground=foreground_voxels(label),
            ),
            key=KEY,
        )
    return [store.open(CaseId(name)) for name in SHAPES]


def source(cases, **changed) -> PatchSource:
    settings_ = {
        "patches": Patches(size=(10, 12, 8), batch_size=3, foreground_share=0.33),
        "augmentation": Augmentation(),
        "num_classes": 3,
        "plan": PLAN,
        "scope": ("site_a", "finetune"),
        "device": CPU,
    }
    return PatchSource(cases, **(settings_ | changed))


def same(first, second) -> bool:
    return torch.equal(first.image, second.image) and torch.equal(first.label, second.label)


def test_a_batch_has_the_stated_shape_and_types(cases):
    batch = source(cases).batch(0)

    assert batch.image.shape == (3, 1, 10, 12, 8)
    assert batch.label.shape == (3, 10, 12, 8)
    assert batch.image.dtype == torch.float32
    assert batch.label.dtype == torch.int64


def test_a_batch_depends_on_the_step_alone(cases):
    first, second = source(cases), source(cases)
    forward = [first.batch(step) for step in range(6)]
    backward = [second.batch(step) for step in reversed(range(6))][::-1]

    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
    assert not same(forward[0], forward[1])


def test_plan_and_scope_change_the_batch_and_the_order_of_cases_does_not(cases):
    batch = source(cases).batch(3)

    assert same(batch, source(cases[::-1]).batch(3))
    assert not same(batch, source(cases, plan=Digest("b" * 64)).batch(3))
    assert not same(batch, source(cases, scope=("site_b", "finetune")).batch(3))


def test_memory_and_disk_give_the_same_batches(cases):
    none, little, ample = (DecodedCases(limit_bytes=size) for size in (0, 12_000, 1 << 30))
    sources = [source(cases, decoded=decoded) for decoded in (none, little, ample)]

    for step in range(8):
        first, *others = (one.batch(step) for one in sources)
        assert all(same(first, other) for other in others)
    assert none.size_bytes == 0
    assert 0 < little.size_bytes <= 12_000
    assert all(case in ample for case in cases)


def test_a_thread_that_reads_ahead_changes_no_bit(cases):
    plain, ahead = source(cases, reads_ahead=False), source(cases, reads_ahead=True)

    for step in (0, 1, 2, 7, 3, 4, 4):
        assert same(plain.batch(step), ahead.batch(step))


def test_an_error_while_reading_ahead_is_raised_at_its_step(cases, monkeypatch):
    read = PatchSource._read

    def broken(self, step):
        if step == 1:
            raise CaseStoreError("case one", "is damaged", "Prepare it again.")
        return read(self, step)

    monkeypatch.setattr(PatchSource, "_read", broken)
    ahead = source(cases, reads_ahead=True)

    ahead.batch(0)
    with pytest.raises(CaseStoreError, match="case one: is damaged"):
        ahead.batch(1)
    assert same(ahead.batch(2), source(cases).batch(2))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(*[st.integers(8, 24)] * 3),
    which=st.integers(0, 2),
    is_foreground=st.booleans(),
)
def test_a_patch_lies_in_the_volume_or_holds_it_and_shows_its_voxel(
    cases, seed, size, which, is_foreground
):
    case = cases[which]

    start = patch_start(
        case, size=size, is_foreground=is_foreground, rng=np.random.default_rng(seed)
    )

    for first, length, side in zip(start, size, case.shape, strict=True):
        if side >= length:
            assert 0 <= first <= side - length
        else:
            assert side - length <= first <= 0
    label = np.empty(size, dtype=np.uint8)
    image = np.empty((case.num_channels, *size), dtype=np.float32)
    case.read_patch(start, image=image, label=label)
    if is_foreground:
        assert label.any()


def test_a_foreground_voxel_is_at_the_centre_where_there_is_room(cases):
    starts = {
        patch_start(cases[2], size=(8, 8, 8), is_foreground=True, rng=np.random.default_rng(seed))
        for seed in range(60)
    }

    assert {start[0] for start in starts} == {0}  # no room along i
    assert {start[1] + 4 for start in starts} <= {4, 5, 6}  # 3 is moved inside
    assert {start[2] + 4 for start in starts} == {4, 5, 6}


def test_a_volume_smaller_than_the_patch_lies_anywhere_in_foreground_patches_too(cases):
    starts = [
        patch_start(cases[1], size=(14, 8, 8), is_foreground=True, rng=np.random.default_rng(seed))
        for seed in range(60)
    ]

    assert {start[0] for start in starts} == {-2, -1, 0}


def test_classes_are_drawn_alike_however_small(cases):
    case = cases[0]  # class 1 has 27 voxels, class 2 one
    counts = Counter(
        patch_start(case, size=(8, 8, 8), is_foreground=True, rng=np.random.default_rng(seed))
        == (2, 1, 2)
        for seed in range(400)
    )

    assert 150 < counts[True] < 250


def test_uniform_patches_reach_every_start(cases):
    case = cases[1]
    starts = [
        patch_start(case, size=(10, 14, 12), is_foreground=False, rng=np.random.default_rng(seed))
        for seed in range(300)
    ]

    assert {start[0] for start in starts} == {0, 1, 2}
    assert {start[1] for start in starts} == {-2, -1, 0}
    assert {start[2] for start in starts} == {0}


@pytest.mark.parametrize(
    ("share", "batch_size", "expected"),
    [(0.0, 2, {0}), (1.0, 3, {3}), (0.5, 4, {2}), (0.33, 2, {0, 1}), (0.33, 1, {0, 1})],
)
def test_the_foreground_share_holds_on_average(cases, share, batch_size, expected):
    patches = Patches(size=(8, 8, 8), batch_size=batch_size, foreground_share=share)
    rng = np.random.default_rng(0)

    drawn = [source(cases, patches=patches)._num_foreground(rng) for _ in range(600)]

    assert set(drawn) == expected
    assert np.mean(drawn) == pytest.approx(share * batch_size, abs=0.06)


def test_a_batch_takes_its_foreground_patches_from_labelled_voxels(cases):
    patches = Patches(size=(8, 8, 8), batch_size=4, foreground_share=1.0)
    plain = source(cases, patches=patches, augmentation=None)

    for step in range(10):
        assert plain.batch(step).label.flatten(1).any(dim=1).all()


def test_cases_are_drawn_uniformly(cases):
    plain = source(cases, augmentation=None, patches=Patches(size=(8, 8, 8), batch_size=8))
    drawn = Counter(
        int(image.max() // 10_000) for step in range(60) for image in plain.batch(step).image
    )

    assert set(drawn) == {0, 1, 2}
    assert all(120 < number < 200 for number in drawn.values())


def test_image_and_label_come_from_one_place(cases):
    plain = source(cases, augmentation=None)
    by_number = dict(enumerate(cases))

    for step in range(5):
        batch = plain.batch(step)
        for image, label in zip(batch.image.numpy(), batch.label.numpy(), strict=True):
            inside = image[0] != 0
            case = by_number[int(image.max() // 10_000)]
            place = np.rint(image[0][inside] - image.max() // 10_000 * 10_000 - 1).astype(int)
            np.testing.assert_array_equal(case.label().ravel()[place], label[inside])
            assert not label[~inside].any()


def test_no_case_is_an_error_that_says_where():
    with pytest.raises(NoCasesError, match="site_a finetune"):
        source([])


def test_cases_of_another_study_are_refused(cases):
    with pytest.raises(CaseStoreError, match="case one: was prepared with more classes than 1"):
        source(cases, num_classes=2)


def test_an_unlabelled_case_is_refused(tmp_path):
    store = CaseStore(tmp_path)
    store.write(
        CaseId("bare"),
        PreparedCase(
            image=np.zeros((1, 8, 8, 8), np.float32),
            label=None,
            affine=np.eye(4),
            reference_label=None,
            reference_shape=(8, 8, 8),
            reference_affine=np.eye(4),
            foreground={},
        ),
        key=KEY,
    )

    with pytest.raises(CaseStoreError, match="case bare: has no label"):
        source([store.open(CaseId("bare"))])
