"""From a study's task section to its objective."""

from typing import assert_never

from fedvol.config.learning import SegmentationTask, Task
from fedvol.data.batch import Batch
from fedvol.tasks.segmentation import SegmentationObjective
from fedvol.training import Objective


def build_objective(task: Task, *, num_classes: int) -> Objective[Batch]:
    """The objective of a task.

    Args:
        task: What is learned.
        num_classes: Classes, background included.
    """
    match task:
        case SegmentationTask():
            return SegmentationObjective(task, num_classes=num_classes)
        case _:
            assert_never(task)
