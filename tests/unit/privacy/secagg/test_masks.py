"""Keystreams as masks: every bit of a key counts, and they come off as they went on."""

import numpy as np
import pytest
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from secure_sums import keystream

from fedvol.privacy.secagg.masks import (
    CHUNK_WORDS,
    Masks,
    MaskStream,
    apply_masks,
    pieces,
    spans,
)

WORD = np.dtype("<u4")


def folded_alike() -> tuple[bytes, bytes]:
    """Two keys of the same words of 32 bits, in another order: their exclusive or is the same."""
    one = bytes(range(32))
    other = one[4:8] + one[:4] + one[8:]
    assert one != other
    return one, other


def test_masks_follow_from_all_256_bits_of_their_key() -> None:
    """Flower's SecAgg+ folds a key to 32 bits, which a server guesses in minutes."""
    one, other = folded_alike()
    theirs = [pseudo_rand_gen(key, 1 << 32, [(1000,)])[0] for key in (one, other)]
    assert np.array_equal(theirs[0], theirs[1])
    ours = [keystream(key, num_words=1000, dtype=WORD) for key in (one, other)]
    assert np.count_nonzero(ours[0] == ours[1]) < 5


@pytest.mark.parametrize("dtype", ["<u2", "<u4", "<u8"])
def test_masks_come_off_as_they_went_on(dtype: str) -> None:
    words = np.arange(CHUNK_WORDS + 37).astype(dtype)
    masks = Masks(added=(b"a" * 32, b"b" * 32), subtracted=(b"c" * 32,))
    masked = words.copy()
    apply_masks(masked, masks)
    assert np.count_nonzero(masked == words) < len(words) // 1000
    apply_masks(masked, masks.reversed(), num_threads=2)
    assert np.array_equal(masked, words)


def test_a_stream_is_opened_at_a_whole_block() -> None:
    with pytest.raises(ValueError, match="whole block"):
        MaskStream(Masks(added=(bytes(32),)), dtype=WORD, start=3)


@pytest.mark.parametrize("num_words", [0, 1, CHUNK_WORDS, 5 * CHUNK_WORDS + 1])
@pytest.mark.parametrize("num_parts", [1, 2, 3])
def test_a_row_is_cut_into_parts_of_whole_chunks(num_words: int, num_parts: int) -> None:
    parts = spans(num_words, num_parts=num_parts)
    assert [at for part in parts for at in part] == list(range(num_words))
    assert all(part.start % CHUNK_WORDS == 0 for part in parts)
    assert len(parts) <= num_parts
    small = [at for part in parts for piece in pieces(part, each=1000) for at in piece]
    assert small == list(range(num_words))
