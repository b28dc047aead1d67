"""A key's fingerprint: short enough to read over the telephone, long enough to trust.

128 bits, as eight groups of four hexadecimal digits. Whoever wants to slip in a key of his own
must find one with the fingerprint of a *given* key: 2^128 attempts, as much as forging a signature
costs. That two keys of one maker share a fingerprint (2^64 attempts) deceives nobody but the maker.
Digits are the same in every language; half a minute is enough to read them out.
"""

from fedvol.identity.tags import tagged_digest

_NUM_BYTES = 16
_GROUP = 4


def fingerprint(kind: str, *parts: bytes) -> str:
    """Fingerprint of something that consists of parts, such as `1f2e 3d4c ...`.

    Args:
        kind: What it is; two kinds never share a fingerprint.
        parts: Its bytes.
    """
    digits = tagged_digest(f"fingerprint/{kind}", *parts)[:_NUM_BYTES].hex()
    return " ".join(digits[at : at + _GROUP] for at in range(0, len(digits), _GROUP))
