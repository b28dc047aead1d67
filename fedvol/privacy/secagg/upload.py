"""A site's masked upload: encoded and masked chunk by chunk, so that it needs no second copy."""

import math
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedvol.errors import NonFiniteUpdateError
from fedvol.privacy.secagg.body import BodyCode, BodyEncoder, clipping
from fedvol.privacy.secagg.context import Terms
from fedvol.privacy.secagg.flat import FlatState
from fedvol.privacy.secagg.hashing import KEY_BYTES
from fedvol.privacy.secagg.masks import (
    CHUNK_WORDS,
    Masks,
    MaskStream,
    Words,
    apply_masks,
    pieces,
    spans,
)
from fedvol.privacy.secagg.rotation import READ_AT_ONCE, Rotation, padded
from fedvol.privacy.secagg.tail import encode_tail
from fedvol.types import State

_NOISE_DTYPE = np.dtype("<u4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a site sends of its update: words that are noise to whoever lacks the masks.

    Attributes:
        body: Words of the update.
        tail: Words of weight and figures.
    """

    body: Words
    tail: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteMasks:
    """Masks of both parts of an upload, or of a sum."""

    body: Masks = field(default_factory=Masks)
    tail: Masks = field(default_factory=Masks)

    def reversed(self) -> "SiteMasks":
        """What takes these masks off again."""
        return SiteMasks(body=self.body.reversed(), tail=self.tail.reversed())


def code_of(terms: Terms, *, num_parties: int) -> BodyCode:
    """How the body of a sum is encoded."""
    num_words = terms.num_values if terms.bits == 32 else padded(terms.num_values)
    return BodyCode(terms=terms, num_words=num_words, num_parties=num_parties)


def masked_upload(
    update: State,
    *,
    names: Sequence[str],
    weight: int,
    figures: Sequence[float],
    code: BodyCode,
    masks: SiteMasks,
    context: bytes,
    into: Words | None = None,
    num_threads: int = 1,
) -> Upload:
    """Clip, weigh, round and mask an update.

    Args:
        update: Float32 tensors.
        names: Their order in the body.
        weight: What the update counts by, from 1 to the terms' largest.
        figures: Figures told as sums, one for each of the terms' names.
        code: Of the body.
        masks: Of this site in this sum.
        context: Of the sum.
        into: Where the body is written; None: new memory.
        num_threads: Each does a part of the body.

    Raises:
        NonFiniteUpdateError: A value or figure is NaN or infinite.
        ValueError: Weight, figures or tensors are not those of the terms.
    """
    terms = code.terms
    values = FlatState(update, names=names, num_padded=code.num_words)
    if not 1 <= weight <= terms.max_weight or len(figures) != len(terms.tail):
        raise ValueError("weight or figures are not those of the sum's terms")
    if values.num_values != terms.num_values:
        raise ValueError("the update has another number of values than the sum's terms")
    tail = encode_tail(weight, figures)
    apply_masks(tail, masks.tail)
    norm = values.norm()
    if not math.isfinite(norm):
        raise NonFiniteUpdateError(
            "update before a secure sum",
            "it holds NaN or infinite values",
            "Lower the learning rate, or look at the site's data.",
        )
    factor = clipping(norm, bound=terms.norm_bound) * weight / terms.max_weight
    body = np.empty(code.num_words, dtype=code.dtype) if into is None else into
    part = _Part(
        values=values,
        rotation=Rotation(context, num_values=terms.num_values) if terms.bits == 16 else None,
        code=code,
        factor=factor,
        masks=masks.body,
        noise_key=secrets.token_bytes(KEY_BYTES),
    )
    parts = spans(code.num_words, num_parts=num_threads)
    if len(parts) == 1:
        part.fill(body, span=parts[0])
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            for done in [pool.submit(part.fill, body, span=span) for span in parts]:
                done.result()
    return Upload(body=body, tail=tail)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Fills a part of a body."""

    values: FlatState
    rotation: Rotation | None
    code: BodyCode
    factor: float
    masks: Masks
    noise_key: bytes

    def fill(self, body: Words, *, span: range) -> None:
        masks = MaskStream(self.masks, dtype=self.code.dtype, start=span.start)
        noise = MaskStream(Masks(added=(self.noise_key,)), dtype=_NOISE_DTYPE, start=span.start)
        encoder = BodyEncoder(self.code, factor=self.factor, size=CHUNK_WORDS)
        drawn = np.empty(CHUNK_WORDS, dtype=_NOISE_DTYPE)
        for chunk, values in self._chunks(span):
            words = body[chunk.start : chunk.stop]
            fresh = drawn[: len(chunk)]
            fresh[:] = 0
            noise.apply(fresh)
            encoder.encode(values, noise=fresh, into=words)
            masks.apply(words)

    def _chunks(self, span: range) -> Iterator[tuple[range, NDArray[np.float32]]]:
        """Chunks of a part with their values, which are read, and rotated, several at once."""
        at_once = CHUNK_WORDS if self.rotation is None else READ_AT_ONCE
        held = np.empty(min(at_once, len(span)), dtype=np.float32)
        for large in pieces(span, each=at_once):
            values = held[: len(large)]
            if self.rotation is None:
                self.values.read(large, into=values)
            else:
                self.rotation.read(self.values, at=large, into=values)
            for chunk in pieces(large, each=CHUNK_WORDS):
                yield chunk, values[chunk.start - large.start : chunk.stop - large.start]
