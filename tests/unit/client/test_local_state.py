"""Files of a site between rounds: a round that is asked again begins where it began."""

from pathlib import Path

import numpy as np
import pytest

from fedvol.client.local_state import LocalState
from fedvol.types import Digest, RunId

PLAN = Digest("a" * 64)


@pytest.fixture
def state(tmp_path: Path) -> LocalState:
    return LocalState(tmp_path, run=RunId("r1"), stage=0, plan=PLAN)


def save(state: LocalState, round_index: int) -> None:
    moments = {"moment": np.full(2, round_index, dtype=np.float32)}
    state.save(round=round_index, local={}, optimiser=moments)


def moments_before(state: LocalState, round_index: int) -> float | None:
    found = state.optimiser(up_to=round_index - 1)
    return None if found is None else float(found["moment"][0])


def test_a_round_asked_again_finds_the_moments_it_began_with(state: LocalState) -> None:
    for index in (1, 2, 3):
        save(state, index)
    assert moments_before(state, 3) == 2.0
    save(state, 3)
    assert moments_before(state, 3) == 2.0


def test_also_after_rounds_that_the_site_sat_out(state: LocalState) -> None:
    save(state, 1)
    save(state, 5)
    assert moments_before(state, 5) == 1.0
    save(state, 5)
    assert moments_before(state, 5) == 1.0
    assert moments_before(state, 6) == 5.0


def test_norms_leave_for_one_round_alone(state: LocalState) -> None:
    assert not state.has_released_norms
    assert state.release_norms(round=2)
    assert state.release_norms(round=2)
    assert not state.release_norms(round=3)
    assert state.has_released_norms


def test_older_moments_are_removed(state: LocalState) -> None:
    for index in (1, 2, 4, 7):
        save(state, index)
    assert sorted(path.name for path in state.folder.iterdir()) == [
        "optimiser-000004.safetensors",
        "optimiser-000007.safetensors",
    ]
