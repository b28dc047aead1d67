"""Patches for pretraining: from any case, labels or not, as a function of the step."""

import numpy as np
import pytest
import torch

from fedvol.config.data import Augmentation
from fedvol.config.strategy import MOVES_ALONE
from fedvol.data.case_store import CaseStore, StoredCase
from fedvol.data.decoded import DecodedCases
from fedvol.data.unlabelled import UnlabelledSource
from fedvol.data.volume import PreparedCase
from fedvol.errors import NoCasesError
from fedvol.types import CaseId, Digest

PLAN = Digest("a" * 64)
CPU = torch.device("cpu")
CASES = 4


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[StoredCase]:
    """Cases whose voxels all have their case's number, from 1; every other one has a label."""
    store = CaseStore(tmp_path_factory.mktemp("cases"))
    for number in range(CASES):
        shape = (20, 9, 14)
        label = np.zeros(shape, np.uint8) if number % 2 else None
        store.write(
            CaseId(f"c{number}"),
            PreparedCase(
                image=np.full((1, *shape), number + 1, dtype=np.float32),
                label=label,
                affine=np.eye(4),
                reference_label=label,
                reference_shape=shape,
                reference_affine=np.eye(4),
                foreground={},
            ),
            key=Digest("0" * 64),
        )
    return [store.open(CaseId(f"c{number}")) for number in range(CASES)]


def source(
    cases: list[StoredCase],
    *,
    in_pairs: bool = False,
    augmentation: Augmentation | None = None,
    decoded: DecodedCases | None = None,
    size: tuple[int, int, int] = (8, 12, 8),
) -> UnlabelledSource:
    return UnlabelledSource(
        cases,
        size=size,
        batch_size=3,
        in_pairs=in_pairs,
        augmentation=augmentation,
        plan=PLAN,
        scope=("site_a", "pretext", 0),
        device=CPU,
        decoded=decoded or DecodedCases(limit_bytes=0),
    )


def numbers(image: torch.Tensor) -> list[int]:
    """The case of each patch; its short side is padded with 0."""
    return [round(float(patch.amax())) for patch in image]


def test_a_batch_is_a_function_of_the_step(cases: list[StoredCase]) -> None:
    drawn = [source(cases, augmentation=Augmentation()).batch(step) for step in (0, 1, 0)]
    assert torch.equal(drawn[0].image, drawn[2].image)
    assert drawn[0].seed == drawn[2].seed != drawn[1].seed
    assert not torch.equal(drawn[0].image, drawn[1].image)
    reverse = source(cases[::-1], augmentation=Augmentation()).batch(0)
    assert torch.equal(drawn[0].image, reverse.image)


def test_memory_and_disk_give_the_same_patches(cases: list[StoredCase]) -> None:
    held = DecodedCases(limit_bytes=1 << 20)
    from_memory, from_disk = source(cases, decoded=held), source(cases)
    for step in range(5):
        assert torch.equal(from_memory.batch(step).image, from_disk.batch(step).image)
    assert 0 < held.size_bytes <= CASES * 20 * 9 * 14 * 3


def test_every_case_is_drawn_labelled_or_not(cases: list[StoredCase]) -> None:
    seen = {n for step in range(30) for n in numbers(source(cases).batch(step).image)}
    assert seen == set(range(1, CASES + 1))


def test_a_partner_is_of_another_case_and_of_any(cases: list[StoredCase]) -> None:
    drawn = source(cases, in_pairs=True)
    pairs = set[tuple[int, int]]()
    for step in range(60):
        image = drawn.batch(step).image
        assert image.shape == (6, 1, 8, 12, 8)
        first, partner = image.chunk(2)
        pairs |= set(zip(numbers(first), numbers(partner), strict=True))
    assert all(one != other for one, other in pairs)
    assert len(pairs) == CASES * (CASES - 1)


def test_what_a_volume_lacks_is_padded(cases: list[StoredCase]) -> None:
    image = source(cases).batch(0).image
    assert (image != 0).sum((1, 2, 3, 4)).tolist() == [8 * 9 * 8] * 3


def test_the_batch_tells_padding_from_the_volume(cases: list[StoredCase]) -> None:
    batch = source(cases, in_pairs=True).batch(0)
    assert batch.inside is not None
    assert torch.equal(batch.inside, batch.image != 0)
    moved = batch.to(CPU, layout=torch.channels_last_3d)
    assert moved.inside is batch.inside


def test_a_patch_that_is_whole_comes_without_a_mask(cases: list[StoredCase]) -> None:
    assert source(cases, size=(8, 9, 8)).batch(0).inside is None
    mirrored = Augmentation(rotation_probability=0, scale_probability=0)
    assert source(cases, size=(8, 9, 8), augmentation=mirrored).batch(0).inside is None


@pytest.mark.parametrize("size", [(8, 12, 8), (8, 9, 8)])
def test_padding_moves_with_the_patch(size: tuple[int, int, int], cases: list[StoredCase]) -> None:
    """So do the corners that a rotation brings in. Edges are blurred, by a voxel."""
    changes = MOVES_ALONE.model_copy(update={"rotation_probability": 1.0, "rotation_deg": 40.0})
    batch = source(cases, size=size, augmentation=changes).batch(0)
    assert batch.inside is not None
    number = batch.image.amax((1, 2, 3, 4), keepdim=True)
    within = batch.image / number
    assert within[batch.inside].min() > 0.1
    assert within[~batch.inside].max() < 0.9
    assert 0.3 < batch.inside.float().mean() < 0.95


@pytest.mark.parametrize(("count", "in_pairs"), [(0, False), (0, True), (1, True)])
def test_too_few_cases_are_refused(cases: list[StoredCase], count: int, in_pairs: bool) -> None:
    with pytest.raises(NoCasesError, match="no case" if count == 0 else "a single case"):
        source(cases[:count], in_pairs=in_pairs)


def test_one_case_is_enough_without_pairs(cases: list[StoredCase]) -> None:
    assert set(numbers(source(cases[:1]).batch(0).image)) == {1}
