"""How much a run computes and carries at one site, from its plan alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedvol.config import OpenStudy, Study
from fedvol.config.strategy import FedBN, Finetune
from fedvol.federation import UPDATE_DTYPE, plan_exchange
from fedvol.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTraffic:
    """One stage at one site.

    Attributes:
        kind: `finetune` or `personalise`.
        rounds: Rounds of it.
        steps: Local gradient steps in a round.
        tensors_up: Tensors that leave in a round.
        bytes_up: Their bytes.
        bytes_down: Bytes of weights that arrive in a round.
        norms_up: Bytes of norm layers that leave once, when the stage ends.
    """

    kind: str
    rounds: int
    steps: int
    tensors_up: int
    bytes_up: int
    bytes_down: int
    norms_up: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTraffic:
    """A run at one site.

    Attributes:
        stages: Its stages.
    """

    stages: tuple[StageTraffic, ...]

    @property
    def bytes_up(self) -> int:
        """Weights that leave in the whole run; figures and headers are some kilobytes more."""
        return sum(stage.rounds * stage.bytes_up + stage.norms_up for stage in self.stages)

    @property
    def bytes_down(self) -> int:
        """Weights that arrive in the whole run: those to begin with, and those of each round."""
        return sum((stage.rounds + 1) * stage.bytes_down for stage in self.stages)

    @property
    def steps(self) -> int:
        """Local gradient steps of the whole run."""
        return sum(stage.rounds * stage.steps for stage in self.stages)

    def seconds(self, steps_s: Sequence[float]) -> float:
        """Seconds of training in the whole run.

        Args:
            steps_s: Seconds of one gradient step of each stage.
        """
        return sum(
            stage.rounds * stage.steps * step_s
            for stage, step_s in zip(self.stages, steps_s, strict=True)
        )


def run_traffic(plan: Plan) -> RunTraffic:
    """What a plan carries to and from one site.

    A round sends weights down once, to be judged and trained on, and its updates up once; a cut
    link repeats no more than its last piece.
    """
    item = np.dtype(UPDATE_DTYPE).itemsize
    stages: list[StageTraffic] = []
    for index, stage in enumerate(plan.study.stages):
        exchange = plan_exchange(plan, index)
        is_local_norms = isinstance(stage, Finetune) and isinstance(stage.strategy, FedBN)
        stages.append(
            StageTraffic(
                kind=stage.kind,
                rounds=stage.rounds,
                steps=stage.steps_per_round,
                tensors_up=len(exchange.up),
                bytes_up=sum(spec.size * item for spec in exchange.up),
                bytes_down=sum(spec.size * np.dtype(spec.dtype).itemsize for spec in exchange.down),
                norms_up=sum(spec.size * item for spec in exchange.local) if is_local_norms else 0,
            )
        )
    return RunTraffic(stages=tuple(stages))


def total_rounds(study: Study | OpenStudy) -> int:
    """Rounds of a study, all stages together."""
    return sum(stage.rounds for stage in study.stages)


def total_steps(study: Study | OpenStudy) -> int:
    """Local gradient steps of a study at one site, all rounds together."""
    return sum(stage.rounds * stage.steps_per_round for stage in study.stages)


def plain_bytes(size: int) -> str:
    """A number of bytes as people say it."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return (
                f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
            )
        value /= 1000
    return f"{value:.1f} TB"
