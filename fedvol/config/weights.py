"""A study's file of pretrained weights: by its path in the file people write, by content after."""

from pathlib import Path
from typing import TypeVar, cast

from fedvol.config.changes import Document, changed
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


def with_absolute_file(document: Document, *, folder: Path) -> Document:
    """A study's values, whose file of weights is found wherever they are written.

    Args:
        document: Values of a study file; they may be wrong.
        folder: The folder from which on the path of the file counts.
    """
    stages: object = document.get("stages")
    if not isinstance(stages, list):
        return document
    placed = [_placed(stage, folder=folder) for stage in cast("list[object]", stages)]
    return {**document, "stages": placed}


def _placed(stage: object, *, folder: Path) -> object:
    """A stage, or what stands in its place, with the whole path of its file."""
    value = stage
    for key in ("start", "weights", "file"):
        value = cast(Document, value).get(key) if isinstance(value, dict) else None
    if not isinstance(value, str):
        return stage
    whole = {"start": {"weights": {"file": str((folder / value).absolute())}}}
    return changed(cast(Document, stage), whole)


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
