"""Which slice of a pretext task's picture is shown, and on what grey scale."""

import numpy as np
import torch

from fedvol.config.pretext import MaskedAutoencoder, VolumeFusion
from fedvol.simulation.pretext_pictures import grey_planes, slice_to_see
from fedvol.ssl import PretextPicture

MAE = MaskedAutoencoder(kind="mae")
GRID = (4, 4, 6)


def picture(
    *, shown: torch.Tensor, wanted: torch.Tensor, given: torch.Tensor, changed: torch.Tensor
) -> PretextPicture:
    return PretextPicture(
        shown=shown[None], wanted=wanted[None], given=given[None], changed=changed
    )


def ramp(low: float, high: float) -> torch.Tensor:
    """The same from low to high in every slice."""
    return torch.linspace(low, high, 16).view(4, 4, 1).expand(GRID)


def test_the_slice_has_most_to_see_and_of_several_lies_in_the_middle() -> None:
    changed = torch.zeros(GRID, dtype=torch.bool)
    made = picture(shown=ramp(0, 1), wanted=ramp(0, 1), given=ramp(0, 1), changed=changed)
    assert slice_to_see(made) in (2, 3)
    changed[0, 0, [0, 4, 5]] = True
    assert slice_to_see(made) == 4
    changed[1, 1, 0] = True
    assert slice_to_see(made) == 0


def test_an_answer_off_by_a_factor_looks_so() -> None:
    wanted, changed = ramp(-1, 1), torch.ones(GRID, dtype=torch.bool)
    right = picture(shown=wanted, wanted=wanted, given=wanted, changed=changed)
    half = picture(shown=wanted, wanted=wanted, given=wanted / 2, changed=changed)
    twice = picture(shown=wanted, wanted=wanted, given=wanted * 2, changed=changed)
    shown, truth, same = grey_planes(right, task=MAE, k=0)
    assert (truth.min(), truth.max()) == (0, 255)
    assert np.array_equal(truth, same)
    assert np.array_equal(truth, shown)
    found = grey_planes(half, task=MAE, k=0)[2]
    assert (found.min(), found.max()) == (64, 191)
    found = grey_planes(twice, task=MAE, k=0)[2]
    assert np.count_nonzero(found == 255) > np.count_nonzero(truth == 255)
    assert np.count_nonzero(found == 0) > np.count_nonzero(truth == 0)


def test_classes_have_a_scale_of_their_own_whichever_are_seen() -> None:
    task = VolumeFusion(kind="volume_fusion", levels=4)
    wanted = torch.full(GRID, 2.0)
    made = picture(shown=ramp(50, 60), wanted=wanted, given=wanted + 1, changed=wanted > 0)
    shown, truth, given = grey_planes(made, task=task, k=0)
    assert (shown.min(), shown.max()) == (0, 255)
    assert set(np.unique(truth)) == {128}
    assert set(np.unique(given)) == {191}


def test_a_flat_target_is_no_division_by_nothing() -> None:
    flat = torch.zeros(GRID)
    made = picture(shown=flat, wanted=flat, given=flat + 1, changed=flat > 0)
    shown, wanted, given = grey_planes(made, task=MAE, k=0)
    assert not shown.any()
    assert not wanted.any()
    assert (given == 255).all()
