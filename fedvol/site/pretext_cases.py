"""Which of a hospital's cases a study's pretraining could use, before any is prepared."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from fedvol.config import OpenStudy, Study
from fedvol.config.pretext import needed_cases
from fedvol.data import CaseRecord
from fedvol.data.preprocess import prepared_shape
from fedvol.privacy.floors import is_small
from fedvol.types import Triple


@dataclass(frozen=True, slots=True, kw_only=True)
class PretextCases:
    """What a source holds for a study's pretraining.

    Attributes:
        subjects: Patients behind the cases that serve.
        too_small: Training cases that are left out because the task takes no padding.
        patch: The task's patch in words; empty where it takes padding, or is not planned yet.
        lacks: Why the site would sit the pretraining out; empty: it would not.
    """

    subjects: int
    too_small: int
    patch: str
    lacks: str

    @classmethod
    def of(
        cls, records: Sequence[CaseRecord], *, study: Study | OpenStudy, floor: int
    ) -> Self | None:
        """Count the records of a source; None where the study does not pretrain.

        Args:
            records: Every case, checked.
            study: The study. Where it leaves patch or voxel size to planning, no case counts as too
                small.
            floor: The site's: unlabelled cases of fewer patients are left aside.
        """
        if study.pretrain is None:
            return None
        task = study.pretrain.task
        training = [one for one in records if one.is_usable and one.split == "train"]
        patch = _whole_patch(study)
        serving = [one for one in training if patch is None or _holds(one, patch, study=study)]
        unlabelled = [one for one in serving if not one.is_labelled]
        if is_small(len({one.subject for one in unlabelled}), floor=floor):
            serving = [one for one in serving if one.is_labelled]
        lacks = ""
        if len(serving) < (2 if task.needs_pairs else 1):
            held = "none of them serves" if not serving else "there is one"
            lacks = f"{task.kind} needs {needed_cases(task)}, and {held}"
        return cls(
            subjects=len({one.subject for one in serving}),
            too_small=0
            if patch is None
            else sum(not _holds(one, patch, study=study) for one in training),
            patch="" if patch is None else "x".join(map(str, patch)),
            lacks=lacks,
        )


def _whole_patch(study: Study | OpenStudy) -> Triple | None:
    """The patch that must lie in a volume whole; None where none must, or it is not known."""
    stage = study.pretrain
    if stage is None or not stage.task.needs_whole_patches:
        return None
    size = stage.patches.size if stage.patches is not None else study.patches.size
    return None if size is None or study.preprocessing.spacing_mm is None else size


def _holds(record: CaseRecord, patch: Triple, *, study: Study | OpenStudy) -> bool:
    spacing_mm = study.preprocessing.spacing_mm
    assert record.shape is not None
    assert record.spacing_mm is not None
    assert spacing_mm is not None
    shape = prepared_shape(record.shape, from_mm=record.spacing_mm, to_mm=spacing_mm)
    return all(side >= length for side, length in zip(shape, patch, strict=True))
