"""One byte string per JSON value (RFC 8785), and its SHA-256."""

import hashlib

import numpy as np
import rfc8785

from fedvol.types import Digest, Json, State


def canonical_json(value: Json) -> bytes:
    """Serialise a JSON value to its canonical bytes (RFC 8785)."""
    return rfc8785.dumps(value)  # pyright: ignore[reportArgumentType]  # its alias is invariant


def digest_bytes(data: bytes) -> Digest:
    """SHA-256 of some bytes, in hexadecimal."""
    return Digest(hashlib.sha256(data).hexdigest())


def digest_json(value: Json) -> Digest:
    """SHA-256 of a JSON value's canonical bytes."""
    return digest_bytes(canonical_json(value))


def state_digest(state: State) -> Digest:
    """SHA-256 over names, types, shapes and bytes of a network's tensors, in name order.

    Independent of any file format, so a site and the server can compare what they hold.
    """
    parts: list[Json] = []
    for name in sorted(state):
        array = np.ascontiguousarray(state[name])
        parts.append([name, array.dtype.str, list(array.shape), digest_bytes(array.tobytes())])
    return digest_json(parts)
