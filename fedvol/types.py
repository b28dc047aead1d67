"""Names for the few values that every package passes around."""

from collections.abc import Mapping
from typing import NewType

import numpy as np
from numpy.typing import NDArray

SiteId = NewType("SiteId", str)
"""A hospital, as the study names it."""

CaseId = NewType("CaseId", str)
"""One imaging study of one patient; a pseudonym, unique inside a site."""

SubjectId = NewType("SubjectId", str)
"""One patient; a pseudonym. Splits and intervals are by subject."""

RunId = NewType("RunId", str)
"""One execution of a plan."""

Digest = NewType("Digest", str)
"""Lower-case hexadecimal SHA-256, 64 characters."""

Triple = tuple[int, int, int]
"""One whole number along each axis."""

State = Mapping[str, NDArray[np.generic]]
"""Named tensors of a network, in the network's own order."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""Whatever a JSON document holds."""
