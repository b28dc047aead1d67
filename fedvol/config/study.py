"""The study file, whole."""

from typing import Annotated, Literal, final

from pydantic import Field

from fedvol.config.base import Section
from fedvol.config.data import Augmentation, DataRequirement, Name, Patches, Preprocessing
from fedvol.config.evaluation import Evaluation
from fedvol.config.learning import Task
from fedvol.config.network import Network
from fedvol.config.strategy import (
    Finetune,
    Participation,
    Personalise,
    Pretrain,
    PretrainedWeights,
    Stage,
)


class Question(Section):
    """Abstract: what is never planned of a study; the rest may be left open (`open_study`)."""

    version: Literal[1]
    """Version of this schema."""
    name: Name
    """Short name; appears in every record and report."""
    purpose: Annotated[str, Field(min_length=10, max_length=2000)]
    """What the model is for, in words a privacy officer can judge."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of initial weights, sampling and augmentation; never of privacy noise."""
    data: DataRequirement
    """What each site must have."""
    augmentation: Augmentation = Augmentation()
    """Random changes of training patches."""
    task: Task
    """What it learns."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=3)]
    """Stages in order: a `pretrain` or none, a `finetune`, a `personalise` or none."""
    federation: Participation = Participation()
    """Who must take part, and how long anybody waits."""
    evaluation: Evaluation = Evaluation()
    """How models are judged."""

    @property
    def inference_mirror_axes(self) -> tuple[int, ...]:
        """Axes over which test predictions are averaged."""
        return self.evaluation.test_mirror_axes(self.augmentation)

    @property
    def pretrain(self) -> Pretrain | None:
        """The stage that trains on unlabelled cases, if there is one; the first."""
        return next((stage for stage in self.stages if isinstance(stage, Pretrain)), None)

    @property
    def finetune(self) -> Finetune:
        """The stage that trains the global model."""
        return next(stage for stage in self.stages if isinstance(stage, Finetune))

    @property
    def weights(self) -> PretrainedWeights | None:
        """The file of pretrained weights that finetuning begins with, if there is one."""
        start = self.finetune.start
        return start.weights if start is not None else None

    @property
    def personalise(self) -> Personalise | None:
        """The stage that trains a model for each site, if there is one."""
        return next((stage for stage in self.stages if isinstance(stage, Personalise)), None)

    @property
    def finetune_index(self) -> int:
        """Where among the stages the `finetune` is."""
        return self.stages.index(self.finetune)


@final
class Study(Question):
    """One question put to a federation: what to learn, from which cases, how, and how judged."""

    preprocessing: Preprocessing
    """How volumes are prepared."""
    patches: Patches
    """What one training step sees."""
    network: Network
    """Which network is trained."""
