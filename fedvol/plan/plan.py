"""`Plan`: what a run does, frozen and identified by its digest."""

from enum import StrEnum
from functools import cached_property
from typing import Literal

from pydantic import Field

from fedvol.config import OpenStudy, Study
from fedvol.config.base import Section
from fedvol.errors import PlanMismatchError
from fedvol.plan.canonical import digest_json
from fedvol.plan.choices import PlanningRecord
from fedvol.types import Digest


class TensorKind(StrEnum):
    """The part of a network a tensor belongs to; norms first, wherever they sit."""

    NORM = "norm"
    """Affine weights and running statistics of a norm layer, by module type."""
    STEM = "stem"
    ENCODER = "encoder"
    DECODER = "decoder"
    HEAD = "head"
    BUFFER = "buffer"
    """Whatever is not a floating-point tensor; never averaged."""


class TensorSpec(Section):
    """One tensor of a network's state."""

    name: str
    """Its key in the state."""
    shape: tuple[int, ...]
    """Its axes."""
    dtype: str
    """NumPy name of its type, such as `float32`."""
    kind: TensorKind
    """Part of the network."""
    trainable: bool = True
    """Whether an optimiser changes it; running statistics of a norm layer are only averaged."""

    @property
    def size(self) -> int:
        """Number of values."""
        size = 1
        for side in self.shape:
            size *= side
        return size


class NetworkDescription(Section):
    """What server and exchange policies know of a network, without torch."""

    tensors: tuple[TensorSpec, ...]
    """Every tensor of the state, in the network's order."""
    initial_digest: Digest
    """`state_digest` of the initial weights."""

    @property
    def architecture(self) -> Digest:
        """Digest of names, shapes, types and kinds; weights left out."""
        return digest_json([spec.model_dump(mode="json") for spec in self.tensors])


class Plan(Section):
    """A study with nothing left open."""

    version: Literal[1] = 1
    """Version of this schema."""
    software: str
    """fedvol's version; a site of another minor version is refused."""
    study: Study
    """The study, whole."""
    sites: tuple[str, ...]
    """Sites that may take part, sorted; nobody else is asked."""
    network: NetworkDescription
    """What the study's network consists of, and the digest of its initial weights."""
    planning: PlanningRecord | None = Field(default=None, exclude_if=lambda record: record is None)
    """How values that the study left open came about; absent where it fixed them all."""

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 of the canonical JSON; names the plan everywhere."""
        return digest_json(self.model_dump(mode="json"))

    def require_same(self, other: Digest, *, where: str) -> None:
        """Refuse to go on under another plan.

        Raises:
            PlanMismatchError: `other` is not this plan's digest.
        """
        if other != self.digest:
            raise PlanMismatchError(
                where,
                f"plan {other[:12]} is not this run's plan {self.digest[:12]}",
                "Use the study, seed and fedvol version the run began with.",
            )


class Proposal(Section):
    """What a fingerprint job asks sites to agree to, before there is a plan."""

    version: Literal[1] = 1
    """Version of this schema."""
    software: str
    """fedvol's version."""
    study: OpenStudy
    """The study as written."""
    sites: tuple[str, ...]
    """Sites that are asked, sorted."""

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 of the canonical JSON; stands for the plan in the job's messages."""
        return digest_json(self.model_dump(mode="json"))
