"""Masks: keystreams of AES-256-CTR added to words of 16, 32 or 64 bits, modulo what they hold."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

CHUNK_WORDS: Final = 1 << 16
"""Words that are masked at once: they and a buffer stay in a core's cache."""

_BLOCK_BYTES = 16

Words = NDArray[np.unsignedinteger[Any]]
"""One row of unsigned words, little-endian."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """Keys, 32 bytes each, of keystreams that are added to words, and of those taken away."""

    added: tuple[bytes, ...] = ()
    subtracted: tuple[bytes, ...] = ()

    def reversed(self) -> "Masks":
        """What takes these masks off again."""
        return Masks(added=self.subtracted, subtracted=self.added)


@final
class MaskStream:
    """Masks words piece after piece, from one place of the keystreams on.

    Args:
        masks: Keys.
        dtype: Type of the words.
        start: Index of the first word; a whole number of blocks of 16 bytes before it.

    Raises:
        ValueError: `start` is within a block.
    """

    def __init__(self, masks: Masks, *, dtype: np.dtype[Any], start: int = 0) -> None:
        self._added = [_open(key, at_byte=start * dtype.itemsize) for key in masks.added]
        self._subtracted = [_open(key, at_byte=start * dtype.itemsize) for key in masks.subtracted]
        self._dtype = dtype.newbyteorder("<")
        size_bytes = CHUNK_WORDS * dtype.itemsize
        self._zeros = bytes(size_bytes)
        self._buffer = bytearray(size_bytes + _BLOCK_BYTES)

    def apply(self, words: Words) -> None:
        """Mask the next words in place; at most `CHUNK_WORDS`, all but the last whole blocks."""
        size_bytes = words.nbytes
        zeros, into = memoryview(self._zeros)[:size_bytes], memoryview(self._buffer)
        stream = np.frombuffer(self._buffer, dtype=self._dtype, count=len(words))
        for keystream in self._added:
            keystream.update_into(zeros, into)
            np.add(words, stream, out=words)
        for keystream in self._subtracted:
            keystream.update_into(zeros, into)
            np.subtract(words, stream, out=words)


def apply_masks(words: Words, masks: Masks, *, num_threads: int = 1) -> None:
    """Mask a whole row of words in place.

    Args:
        words: The row; its type says modulo what.
        masks: Keys.
        num_threads: Each masks a part of the row; the cipher lets others run.
    """
    parts = spans(len(words), num_parts=num_threads)
    if len(parts) == 1:
        _apply_span(words, masks, parts[0])
        return
    with ThreadPoolExecutor(len(parts)) as pool:
        for done in [pool.submit(_apply_span, words, masks, part) for part in parts]:
            done.result()


def spans(num_words: int, *, num_parts: int) -> list[range]:
    """A row cut into at most so many parts of whole chunks; the last ends where the row does."""
    num_chunks = max(1, -(-num_words // CHUNK_WORDS))
    each = -(-num_chunks // num_parts) * CHUNK_WORDS
    return [range(at, min(at + each, num_words)) for at in range(0, max(num_words, 1), each)]


def pieces(span: range, *, each: int) -> Sequence[range]:
    """A part of a row in pieces of a size; the last may be shorter."""
    return [range(at, min(at + each, span.stop)) for at in range(span.start, span.stop, each)]


def _apply_span(words: Words, masks: Masks, span: range) -> None:
    stream = MaskStream(masks, dtype=words.dtype, start=span.start)
    for chunk in pieces(span, each=CHUNK_WORDS):
        stream.apply(words[chunk.start : chunk.stop])


def _open(key: bytes, *, at_byte: int) -> CipherContext:
    block, within = divmod(at_byte, _BLOCK_BYTES)
    if within:
        raise ValueError("a keystream is opened at a whole block")
    return Cipher(AES(key), CTR(block.to_bytes(_BLOCK_BYTES, "big"))).encryptor()
