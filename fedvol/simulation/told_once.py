"""`ToldOnce`: where sites and server are one process, a refusal is told by one of them."""

from collections import Counter
from typing import Final, final

from fedvol.telemetry import Observer
from fedvol.types import Json

_REFUSED: Final = "site.refused"


@final
class ToldOnce:
    """Passes events on, but not a refusal of which the site itself has told already.

    A site tells why it refuses, in full, before its reply leaves. The server, which gets the code
    alone, tells that. Where only the server is heard, as with sites on Ray, its word is passed on.

    Args:
        observer: Hears of everything else.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._told = Counter[tuple[Json, Json, Json]]()

    def event(self, name: str, /, **fields: Json) -> None:
        """Pass an event on, or leave it."""
        if name == _REFUSED:
            refusal = (fields.get("site"), fields.get("round"), fields.get("code"))
            if fields.get("detail"):
                self._told[refusal] += 1
            elif self._told[refusal]:
                self._told[refusal] -= 1
                return
        self._observer.event(name, **fields)
