"""The app bundle that Flower wants for a run. Ours holds words about itself and no code.

A site runs the fedvol it installed; it takes no run whose bundle is another than this one, and it
never fetches even this one. The bytes are the same on every machine: nothing is compressed.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import cache

from fedvol.types import Digest

_MADE = (1980, 1, 1, 0, 0, 0)

_PROJECT = """\
[project]
name = "fedvol"
version = "1.0.0"
description = "Runs what every site has installed; holds no code."
license = { file = "LICENSE" }
dependencies = ["flwr>=1.41,<1.42"]

[tool.flwr.app]
publisher = "fedvol"
fab-format-version = 1
flwr-version-target = "1.41.0"

[tool.flwr.app.components]
serverapp = "fedvol.server:app"
clientapp = "fedvol.client:app"

[tool.flwr.app.config]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A Flower app bundle.

    Attributes:
        content: A zip file.
        digest: SHA-256 of it, by which Flower names it.
    """

    content: bytes
    digest: Digest


@cache
def thin_bundle() -> Bundle:
    """The one bundle of fedvol."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, text in (("LICENSE", "Apache-2.0\n"), ("pyproject.toml", _PROJECT)):
            file.writestr(zipfile.ZipInfo(name, _MADE), text)
    content = buffer.getvalue()
    return Bundle(content=content, digest=Digest(hashlib.sha256(content).hexdigest()))
