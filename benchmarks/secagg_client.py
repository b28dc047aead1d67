"""What masking an update costs a site: against Flower's SecAgg+, bare keystreams, and in memory.

Both sides get the same vector and the same number of other sites, and clip, weigh, round and mask
it. Flower's side is the part of its client that does so, from its own functions: quantisation to
22 bits, one generator a mask, whole vectors of 64-bit numbers. Keys are agreed beforehand on both
sides. Ours writes into memory that the site holds from round to round, and uses as many threads as
there are cores where it is compared with Flower's, which has one.
"""

import os
import secrets
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from benchmarks.measurement import Detail, Measurement, Size, in_turns
from fedvol.privacy.secagg import SiteMasks, Terms, code_of, masked_upload
from fedvol.privacy.secagg.context import Bits
from fedvol.privacy.secagg.masks import CHUNK_WORDS, Masks
from fedvol.types import State

_SITES = 8
_KEY_BYTES = 32
_CONTEXT = bytes(_KEY_BYTES)
_CLIPPING, _TARGET, _MODULUS, _MAX_WEIGHT = 8.0, 1 << 22, 1 << 32, 1000
"""Flower's defaults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    values: int
    tensors: int
    repeats: int


_CASES: dict[Size, _Case] = {
    "tiny": _Case(values=200_000, tensors=4, repeats=1),
    "default": _Case(values=30_000_000, tensors=60, repeats=3),
    "large": _Case(values=100_000_000, tensors=200, repeats=3),
}


def speedup_vs_flwr(size: Size) -> Measurement:
    """Seconds of Flower's client over ours."""
    case, update = _CASES[size], _update(_CASES[size])
    num_threads = os.cpu_count() or 1
    ours = _ours(case, update, bits=32, num_threads=num_threads)
    keys = _keys()

    def flower() -> object:
        return _as_flower_does(update, keys=keys)

    ours()
    flower()
    timed = in_turns(ours, baseline=flower, repeats=case.repeats)
    return Measurement(
        name="secagg_client_speedup_vs_flwr",
        value=timed.speedup,
        unit="times",
        baseline="the same step of the client of Flower's SecAgg+",
        detail={**_sizes(case), "threads": num_threads, **timed.detail()},
    )


def vs_keystream(size: Size) -> Measurement:
    """Seconds of ours over those of nothing but the keystreams of the masks."""
    case, update = _CASES[size], _update(_CASES[size])
    keys = _keys()
    narrow = in_turns(
        _ours(case, update, bits=16),
        baseline=lambda: _bare(keys, size_bytes=2 * case.values),
        repeats=case.repeats,
    )
    wide = in_turns(
        _ours(case, update, bits=32),
        baseline=lambda: _bare(keys, size_bytes=4 * case.values),
        repeats=2 * case.repeats,
    )
    return Measurement(
        name="secagg_client_vs_keystream",
        value=1 / wide.speedup,
        unit="times",
        baseline="bare AES-256-CTR keystreams of the same bytes",
        detail={
            **_sizes(case),
            **wide.detail(),
            "lowest_ratio": 1 / max(1e-9, float(wide.detail()["highest_ratio"])),
            "highest_ratio": 1 / max(1e-9, float(wide.detail()["lowest_ratio"])),
            "cpu_ratio": 1 / float(wide.detail()["cpu_ratio"]),
            "ratio_16_bits": 1 / narrow.speedup,
            "s_16_bits": float(narrow.detail()["ours_s"]),
        },
    )


def extra_mib(size: Size) -> Measurement:
    """Most memory beside the update and what is sent, of 32 and of 16 bits."""
    case, update = _CASES[size], _update(_CASES[size])
    extra: dict[int, float] = {}
    for bits in (32, 16):
        upload = _ours(case, update, bits=bits)
        tracemalloc.start()
        upload()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        extra[bits] = peak / 2**20
    return Measurement(
        name="secagg_extra_mib",
        value=max(extra.values()),
        unit="MiB",
        baseline="0: the update, and the words that are sent",
        detail={
            **_sizes(case),
            "mib_32_bits": extra[32],
            "mib_16_bits": extra[16],
            "update_mib": 4 * case.values / 2**20,
        },
    )


def _ours(case: _Case, update: State, *, bits: Bits, num_threads: int = 1) -> Callable[[], object]:
    keys = _keys()
    code = code_of(
        Terms(num_values=case.values, bits=bits, norm_bound=1.0, max_weight=_MAX_WEIGHT),
        num_parties=_SITES,
    )
    masks = SiteMasks(body=Masks(added=keys[: _SITES // 2], subtracted=keys[_SITES // 2 :]))
    into = np.zeros(code.num_words, dtype=code.dtype)

    def upload() -> object:
        return masked_upload(
            update,
            names=list(update),
            weight=10,
            figures=(),
            code=code,
            masks=masks,
            context=_CONTEXT,
            into=into,
            num_threads=num_threads,
        )

    return upload


def _as_flower_does(update: State, *, keys: Sequence[bytes]) -> object:
    ratio = round(10 / _MAX_WEIGHT * _TARGET)
    parameters = parameters_multiply(list(update.values()), ratio / _TARGET)
    words = factor_combine(ratio, quantize(parameters, _CLIPPING, _TARGET))
    shapes: list[tuple[int, ...]] = [word.shape for word in words]
    for index, key in enumerate(keys):
        mask = pseudo_rand_gen(key, _MODULUS, shapes)
        combine = parameters_addition if index < _SITES // 2 else parameters_subtraction
        words = combine(words, mask)
    return parameters_mod(words, _MODULUS)


def _bare(keys: Sequence[bytes], *, size_bytes: int) -> None:
    zeros, buffer = bytes(4 * CHUNK_WORDS), bytearray(4 * CHUNK_WORDS + 16)
    for key in keys:
        keystream = Cipher(AES(key), CTR(bytes(16))).encryptor()
        for _ in range(0, size_bytes, len(zeros)):
            keystream.update_into(zeros, buffer)


def _keys() -> tuple[bytes, ...]:
    """One a mask: the site's own, and one with each of the others."""
    return tuple(secrets.token_bytes(_KEY_BYTES) for _ in range(_SITES))


def _update(case: _Case) -> State:
    generator = np.random.default_rng(7)
    each = case.values // case.tensors
    return {
        f"tensor.{index}": generator.normal(scale=1e-4, size=each).astype(np.float32)
        for index in range(case.tensors)
    }


def _sizes(case: _Case) -> Detail:
    return {"values": case.values, "sites": _SITES}
