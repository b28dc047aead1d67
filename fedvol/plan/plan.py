"""`Plan`: what a run does, frozen and identified by its digest."""

from functools import cached_property
from typing import Literal

from pydantic import Field

from fedvol.config import OpenStudy, Study
from fedvol.config.base import Section
from fedvol.errors import PlanMismatchError
from fedvol.plan.adaptation import AdaptationRecord, StartingWeights
from fedvol.plan.canonical import digest_json, state_digest
from fedvol.plan.choices import PlanningRecord
from fedvol.plan.initial import network_part, pretext_part
from fedvol.plan.tensors import NetworkDescription
from fedvol.types import Digest, State


class Taken(Section):
    """A tensor that finetuning takes over."""

    source: str
    """Its name in the pretrained network."""
    target: str
    """Its name in the study's network; shape and type are the same."""


class Pretraining(Section):
    """What is pretrained, and what of it finetuning starts from."""

    network: NetworkDescription
    """The pretext task's network: the study's with another end, or its encoder before a head."""
    encoder: tuple[str, ...]
    """Tensors of its stem and encoder, norm layers among them."""
    heads: tuple[str, ...]
    """Tensors of its heads, or of what else the task alone needs, norm layers among them."""
    taken: tuple[Taken, ...]
    """What finetuning takes over; the rest of its network begins with the initial weights."""
    record: AdaptationRecord
    """What others must know of the pretrained weights; goes into the header of their file."""


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
    pretraining: Pretraining | None = Field(default=None, exclude_if=lambda one: one is None)
    """The pretrain stage's network; absent where there is no such stage."""
    start: StartingWeights | None = Field(default=None, exclude_if=lambda one: one is None)
    """The file of pretrained weights that finetuning begins with; absent where it has none."""
    planning: PlanningRecord | None = Field(default=None, exclude_if=lambda record: record is None)
    """How values that the study left open came about; absent where it fixed them all."""

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 of the canonical JSON; names the plan everywhere."""
        return digest_json(self.model_dump(mode="json"))

    def network_of(self, stage: int) -> NetworkDescription:
        """The network that is trained in a stage."""
        if self.study.stages[stage].kind != "pretrain":
            return self.network
        assert self.pretraining is not None
        return self.pretraining.network

    def require_initial(self, initial: State, *, where: str) -> None:
        """Refuse weights to begin with that are not those of the plan.

        Raises:
            PlanMismatchError: They are others.
        """
        parts = [(self.network, network_part(initial))]
        if self.pretraining is not None:
            parts.append((self.pretraining.network, pretext_part(initial)))
        if any(state_digest(state) != network.initial_digest for network, state in parts):
            raise PlanMismatchError(
                where,
                "the initial weights are not those of the plan",
                "Build plan and weights from one study with one version of fedvol.",
            )

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
