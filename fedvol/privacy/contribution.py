"""`Update`, which cannot be sent, and `Contribution`, which alone can."""

from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from enum import StrEnum
from typing import NoReturn, final

from fedvol.federation import TrainReport
from fedvol.types import Digest, Json, State


class Kind(StrEnum):
    """What a contribution holds."""

    HEALTH = "health"
    FINGERPRINT = "fingerprint"
    UPDATE = "update"
    REPORT = "report"
    EVALUATION = "evaluation"
    NORMS = "norms"
    REFUSAL = "refusal"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What training made, raw: it has no serialiser and stays at the site.

    Attributes:
        tensors: Local minus global weights, float32, one array per shared tensor; updates of
            companions, such as a control variate, under their own names.
        report: How the training went.
    """

    tensors: State
    report: TrainReport

    def __reduce__(self) -> NoReturn:
        raise TypeError("an update is not serialised; release it")


_SEAL = object()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What leaves a site. Only `Releaser` makes one, after policy and audit.

    Attributes:
        kind: What it holds.
        values: What the site says, by name.
        tensors: Read-only arrays that go with it.
        digest: SHA-256 over all of it, as the audit log has it.
        code: Empty, or the error code of a refusal.
        title: Fixed words that belong to `code`.
    """

    kind: Kind
    values: Mapping[str, Json]
    tensors: State
    digest: Digest
    code: str
    title: str
    seal: InitVar[object]

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("a contribution is made by Releaser alone")


def sealed(
    kind: Kind,
    *,
    values: Mapping[str, Json],
    tensors: State,
    digest: Digest,
    code: str = "",
    title: str = "",
) -> Contribution:
    """A contribution; for `release` alone, which has asked policy and audit first."""
    return Contribution(
        kind=kind,
        values=values,
        tensors=tensors,
        digest=digest,
        code=code,
        title=title,
        seal=_SEAL,
    )
