"""Most memory that masking takes beside the update and what is sent."""

import tracemalloc

from benchmarks.masked_update import CASES, masking
from benchmarks.measurement import Measurement, Size
from fedvol.privacy.secagg.context import Bits


def measure(size: Size) -> Measurement:
    """The larger of words of 32 and of 16 bits."""
    wide, narrow = _extra_mib(size, bits=32), _extra_mib(size, bits=16)
    case = CASES[size]
    return Measurement(
        name="secagg_extra_mib",
        value=max(wide, narrow),
        unit="MiB",
        baseline="0: the update, and the words that are sent",
        detail={
            **case.sizes,
            "mib_of_32_bits": wide,
            "mib_of_16_bits": narrow,
            "update_mib": 4 * case.values / 2**20,
        },
    )


def _extra_mib(size: Size, *, bits: Bits) -> float:
    case = CASES[size]
    mask = masking(case, case.update(), bits=bits)
    tracemalloc.start()
    mask()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20
