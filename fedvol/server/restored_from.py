"""`RestoredFrom`: what a restored server remembers of that, in its folder."""

import json
from pathlib import Path
from typing import Annotated, Literal, Self, cast

from pydantic import Field, ValidationError

from fedvol.config.base import Section
from fedvol.errors import StoreError
from fedvol.files import write_atomic
from fedvol.plan import canonical_json
from fedvol.types import Json

_Moment = Annotated[str, Field(max_length=40)]


class RestoredFrom(Section):
    """The backup from which the server goes on."""

    version: Literal[1] = 1
    """Of this form."""
    backup: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Digest of its manifest."""
    taken: _Moment
    """When it was taken, UTC."""
    restored: _Moment
    """When the server was restored, UTC."""

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What a file says; None if there is none, because the server never was restored.

        Raises:
            StoreError: It cannot be read.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise StoreError(
                str(path),
                "it is damaged or cannot be read",
                "See the line `restored` of the audit log, and remove the file.",
            ) from error

    def write(self, path: Path) -> None:
        """Put it in a file.

        Raises:
            StoreError: The file cannot be written.
        """
        said = json.loads(self.model_dump_json())
        write_atomic(path, canonical_json(cast("Json", said)), mode=0o600)
