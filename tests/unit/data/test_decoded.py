"""However many cases there are, no more than the limit is held uncompressed."""

import gc
from inspect import signature

import numpy as np
import pytest

from fedvol.data.case_store import CaseStore, StoredCase
from fedvol.data.decoded import LIMIT_BYTES, SHARED, DecodedCases, share_limit
from fedvol.data.sampling import PatchSource
from fedvol.data.volume import PreparedCase
from fedvol.types import CaseId, Digest

SIDE = 10
CASE_BYTES = SIDE**3 * (2 * 2 + 1)


@pytest.fixture
def cases(tmp_path) -> list[StoredCase]:
    """Eight cases of two channels."""
    store = CaseStore(tmp_path)
    for number in range(8):
        rng = np.random.default_rng(number)
        label = rng.integers(0, 2, (SIDE,) * 3).astype(np.uint8)
        store.write(
            CaseId(f"case_{number}"),
            PreparedCase(
                image=rng.normal(size=(2, SIDE, SIDE, SIDE)).astype(np.float32),
                label=label,
                affine=np.eye(4),
                reference_label=label,
                reference_shape=label.shape,
                reference_affine=np.eye(4),
                foreground={},
            ),
            key=Digest("0" * 64),
        )
    return [store.open(name) for name in store.cases()]


def test_what_is_held_is_the_case(cases):
    held = DecodedCases(limit_bytes=1 << 20).voxels(cases[0])

    assert held is not None
    assert held.levels.dtype == np.int16
    assert held.levels.nbytes + held.label.nbytes == cases[0].voxel_bytes == CASE_BYTES
    np.testing.assert_array_equal(held.label, cases[0].label())


def test_no_more_than_the_limit_is_held_and_the_rest_stays_on_disk(cases):
    decoded = DecodedCases(limit_bytes=3 * CASE_BYTES + 1)

    for _ in range(3):
        found = [decoded.voxels(case) is not None for case in cases]
        assert found == [True] * 3 + [False] * 5
        assert decoded.size_bytes == 3 * CASE_BYTES


def test_a_case_is_decompressed_once_for_all_who_use_it(cases):
    decoded = DecodedCases(limit_bytes=1 << 20)

    assert decoded.voxels(cases[0]) is decoded.voxels(cases[0])


def test_a_case_no_longer_used_makes_room(cases):
    decoded = DecodedCases(limit_bytes=CASE_BYTES)
    assert decoded.voxels(cases[0]) is not None
    assert decoded.voxels(cases[1]) is None

    del cases[0]
    gc.collect()

    assert decoded.size_bytes == 0
    assert decoded.voxels(cases[0]) is not None


def test_a_thousand_cts_at_each_of_many_sites_stay_within_a_gibibyte():
    """The limit that training uses belongs to the process, not to a site or a stage."""
    assert signature(PatchSource).parameters["decoded"].default is SHARED
    assert SHARED.limit_bytes == LIMIT_BYTES == 1 << 30


def test_processes_of_one_machine_share_its_gibibyte():
    share_limit(4)
    try:
        assert SHARED.limit_bytes == LIMIT_BYTES // 4
    finally:
        share_limit(1)
    assert SHARED.limit_bytes == LIMIT_BYTES
