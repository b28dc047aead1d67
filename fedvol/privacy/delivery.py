"""`Delivery`: to whom a site's contributions go, and under which consent."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What the audit log says of each contribution besides what it holds.

    Attributes:
        recipient: Who receives it.
        recipient_key: Fingerprint of the recipient's identity key; empty where it has none.
        consent: The consent under which contributions leave; empty where none is asked.
    """

    recipient: str = "server"
    recipient_key: str = ""
    consent: str = ""


IN_PROCESS = Delivery()
"""A simulation's: no consent, no key."""
