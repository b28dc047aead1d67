"""Local training: one loop, the `Objective` seam, optimiser, schedule, checkpoint."""

from fedvol.training.compilation import compiled, require_compiler
from fedvol.training.control import ControlVariate
from fedvol.training.correction import Correction
from fedvol.training.freezing import only_trained
from fedvol.training.layout import place
from fedvol.training.local_checkpoint import LocalCheckpoint, Progress
from fedvol.training.loop import TrainResult, Watch, Window, train
from fedvol.training.objective import Objective
from fedvol.training.optimiser import LocalOptimiser, build_optimiser
from fedvol.training.proximal import Pull
from fedvol.training.schedule import poly_learning_rate
from fedvol.training.threads import threads

__all__ = [
    "Objective",
    "ControlVariate",
    "Correction",
    "Pull",
    "LocalOptimiser",
    "build_optimiser",
    "poly_learning_rate",
    "LocalCheckpoint",
    "Progress",
    "TrainResult",
    "Watch",
    "Window",
    "compiled",
    "only_trained",
    "place",
    "require_compiler",
    "threads",
    "train",
]
