"""Masking an update: all of it against nothing but the keystreams of its masks, on one core."""

from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from benchmarks.masked_update import CASES, draw_keys, masking
from benchmarks.measurement import Measurement, Paired, Size, in_turns
from fedvol.privacy.secagg.context import Bits

_AT_ONCE = bytes(1 << 18)


def measure(size: Size) -> Measurement:
    """Seconds of masking in words of 32 bits over those of the keystreams."""
    wide, narrow = _timed(size, bits=32), _timed(size, bits=16)
    detail = wide.detail()
    return Measurement(
        name="secagg_client_vs_keystream",
        value=1 / wide.speedup,
        unit="times",
        baseline="bare AES-256-CTR keystreams of the same bytes",
        detail={
            **CASES[size].sizes,
            **detail,
            "lowest_ratio": 1 / float(detail["highest_ratio"]),
            "highest_ratio": 1 / float(detail["lowest_ratio"]),
            "cpu_ratio": 1 / float(detail["cpu_ratio"]),
            "ratio_of_16_bits": 1 / narrow.speedup,
            "cpu_ratio_of_16_bits": 1 / float(narrow.detail()["cpu_ratio"]),
        },
    )


def _timed(size: Size, *, bits: Bits) -> Paired:
    case, keys = CASES[size], draw_keys()
    ours = masking(case, case.update(), bits=bits)

    def bare() -> None:
        _keystreams(keys, size_bytes=case.values * bits // 8)

    ours()
    bare()
    return in_turns(ours, baseline=bare, repeats=2 * case.repeats)


def _keystreams(keys: Sequence[bytes], *, size_bytes: int) -> None:
    buffer = bytearray(len(_AT_ONCE) + 16)
    for key in keys:
        keystream = Cipher(AES(key), CTR(bytes(16))).encryptor()
        for _ in range(0, size_bytes, len(_AT_ONCE)):
            keystream.update_into(_AT_ONCE, buffer)
