"""Every random number of the experiment from one rule; privacy noise never comes from here."""

from fedvol.plan.canonical import digest_json
from fedvol.types import Digest


def derive_seed(plan: Digest, *scope: str | int) -> int:
    """A 63-bit seed for one purpose.

    Args:
        plan: Digest of the plan; two plans share no randomness.
        scope: What it is for, for example site, purpose, step. Order and type matter.
    """
    return int(digest_json([plan, *scope])[:16], 16) >> 1
