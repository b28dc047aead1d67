"""Masking an update: ours against the client of Flower's SecAgg+.

Both sides get the same vector and the same number of other sites, and clip, weigh, round and mask
it; keys are agreed beforehand. Flower's side is the part of its client that does so, from its own
functions: quantisation to 22 bits, one generator a mask, whole vectors of 64-bit numbers, one
thread. Ours uses as many threads as there are cores.
"""

import os
from collections.abc import Sequence

from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from benchmarks.masked_update import CASES, MAX_WEIGHT, SITES, WEIGHT, draw_keys, masking
from benchmarks.measurement import Measurement, Size, in_turns
from fedvol.types import State

_CLIPPING, _TARGET, _MODULUS = 8.0, 1 << 22, 1 << 32
"""Flower's defaults."""


def measure(size: Size) -> Measurement:
    """Seconds of Flower's client over ours."""
    case = CASES[size]
    update, num_threads, keys = case.update(), os.cpu_count() or 1, draw_keys()
    ours = masking(case, update, bits=32, num_threads=num_threads)

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
        detail={**case.sizes, "threads": num_threads, **timed.detail()},
    )


def _as_flower_does(update: State, *, keys: Sequence[bytes]) -> object:
    ratio = round(WEIGHT / MAX_WEIGHT * _TARGET)
    parameters = parameters_multiply(list(update.values()), ratio / _TARGET)
    words = factor_combine(ratio, quantize(parameters, _CLIPPING, _TARGET))
    shapes: list[tuple[int, ...]] = [word.shape for word in words]
    for index, key in enumerate(keys):
        mask = pseudo_rand_gen(key, _MODULUS, shapes)
        combine = parameters_addition if index < SITES // 2 else parameters_subtraction
        words = combine(words, mask)
    return parameters_mod(words, _MODULUS)
