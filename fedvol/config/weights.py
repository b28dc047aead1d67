"""A study's file of pretrained weights: by its path in the file people write, by content after."""

from typing import TypeVar

from fedvol.config.strategy import Finetune
from fedvol.config.study import Question
from fedvol.types import Digest

AnyStudy = TypeVar("AnyStudy", bound=Question)


def by_content(study: AnyStudy, digest: Digest) -> AnyStudy:
    """A study that names its file of pretrained weights by content instead of path.

    Args:
        study: The study; one without such a file is returned as it is.
        digest: SHA-256 of the file.
    """
    return _naming(study, digest)


def without_file(study: AnyStudy) -> AnyStudy:
    """A study that says on which terms it takes weights over, and not which."""
    return _naming(study, None)


def _naming(study: AnyStudy, digest: Digest | None) -> AnyStudy:
    weights = study.weights
    if weights is None:
        return study
    named = weights.model_copy(update={"file": None, "digest": digest})
    stages = tuple(
        stage.model_copy(update={"start": stage.start.model_copy(update={"weights": named})})
        if isinstance(stage, Finetune) and stage.start is not None
        else stage
        for stage in study.stages
    )
    return study.model_copy(update={"stages": stages})
