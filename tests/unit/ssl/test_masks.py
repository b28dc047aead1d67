"""Masked patches: how many blocks, which voxels, what the loss looks at."""

import pytest
import torch

from fedvol.config.pretext import num_masked
from fedvol.data.batch import UnlabelledBatch
from fedvol.ssl.masks import mask_patches, masked_mse, on_grid


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("mask_ratio", [0.75, 0.6, 0.1])
def test_the_same_number_of_whole_blocks_is_masked_in_each_patch(mask_ratio: float) -> None:
    image, block = noise(3, 2, 16, 24, 8), (4, 8, 2)
    patches = mask_patches(UnlabelledBatch(image=image, seed=5), mask_ratio=mask_ratio, block=block)
    num_blocks = 4 * 3 * 4
    assert patches.blocks.shape == (3, 4, 3, 4)
    assert patches.blocks.flatten(1).sum(1).tolist() == [round(mask_ratio * num_blocks)] * 3
    assert torch.equal(patches.wanted, image)
    for sample in range(3):
        for a, b, c in torch.cartesian_prod(*(torch.arange(n) for n in (4, 3, 4))).tolist():
            where = (
                sample,
                slice(None),
                slice(4 * a, 4 * a + 4),
                slice(8 * b, 8 * b + 8),
                slice(2 * c, 2 * c + 2),
            )
            is_masked = bool(patches.blocks[sample, a, b, c])
            wanted = torch.zeros_like(image[where]) if is_masked else image[where]
            assert torch.equal(patches.shown[where], wanted)
            assert (patches.voxels[where] == is_masked).all()


def test_masks_come_from_the_seed_and_differ_between_patches() -> None:
    def masked(seed: int) -> torch.Tensor:
        batch = UnlabelledBatch(image=noise(2, 1, 16, 16, 16), seed=seed)
        return mask_patches(batch, mask_ratio=0.75, block=(4, 4, 4)).blocks

    assert torch.equal(masked(1), masked(1))
    assert not torch.equal(masked(1), masked(2))
    assert not torch.equal(masked(1)[0], masked(1)[1])


def test_every_block_is_masked_as_often() -> None:
    batch = UnlabelledBatch(image=torch.zeros(4000, 1, 4, 2, 2), seed=0)
    blocks = mask_patches(batch, mask_ratio=0.75, block=(2, 1, 1)).blocks
    torch.testing.assert_close(
        blocks.float().mean(0), torch.full((2, 2, 2), 0.75), rtol=0, atol=0.03
    )


def test_nearest_whole_number_of_blocks() -> None:
    assert [num_masked(0.75, num_blocks=n) for n in (1000, 8, 9, 27)] == [750, 6, 7, 20]


def test_error_by_hand_over_masked_voxels_of_all_channels() -> None:
    wanted = torch.zeros(1, 2, 2, 2, 2)
    given = torch.zeros(1, 2, 2, 2, 2)
    voxels = torch.zeros(1, 1, 2, 2, 2, dtype=torch.bool)
    voxels[0, 0, 0] = True  # 4 voxels of 2 channels
    given[0, 0, 0, 0, 0] = 2.0
    given[0, 1, 0, 1, 0] = 4.0
    given[0, :, 1] = 1000.0  # visible
    assert masked_mse(given, wanted, voxels=voxels).item() == (4 + 16) / 8
    assert masked_mse(given.bfloat16(), wanted, voxels=voxels).dtype == torch.float32


def test_grid_of_which_a_position_lies_in_two_blocks_is_refused() -> None:
    blocks = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="2 blocks do not divide 3 positions along axis 3"):
        on_grid(blocks, grid=(4, 3, 2))
