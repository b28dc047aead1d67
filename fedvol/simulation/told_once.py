"""`ToldOnce`: where sites and server are one process, each thing is told by one of them, once."""

from collections import Counter
from typing import Final, final

from fedvol.telemetry import Observer
from fedvol.types import Json

_REFUSED: Final = "site.refused"
_OF_CASES: Final = frozenset({"site.too_small", "site.no_pair"})
"""What a site says of its cases whenever its side of a run is opened."""


@final
class ToldOnce:
    """Passes events on, but not a refusal of which the site itself has told already.

    A site tells why it refuses, in full, before its reply leaves. The server, which gets the code
    alone, tells that. Where only the server is heard, as with sites on Ray, its word is passed on.
    What a site says of its cases is passed on the first time.

    Args:
        observer: Hears of everything else.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._told = Counter[tuple[Json, Json, Json]]()
        self._said_of_cases: set[str] = set()

    def event(self, name: str, /, **fields: Json) -> None:
        """Pass an event on, or leave it."""
        if name == _REFUSED:
            refusal = (fields.get("site"), fields.get("round"), fields.get("code"))
            if fields.get("detail"):
                self._told[refusal] += 1
            elif self._told[refusal]:
                self._told[refusal] -= 1
                return
        if name in _OF_CASES:
            said = f"{name} {sorted(fields.items())}"
            if said in self._said_of_cases:
                return
            self._said_of_cases.add(said)
        self._observer.event(name, **fields)
