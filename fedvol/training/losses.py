"""Losses of a round: summed, checked, told, without waiting for the device at each step."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fedvol.errors import TrainingDivergedError


class LossRecord:
    """Holds losses on their device and reads several of them at once.

    Args:
        total: Sum of the losses of earlier steps.
        read_every: Steps after which they are read; reading waits for the device.
        on_step: Called for each step, in order, with the steps done and the loss.
    """

    def __init__(
        self, *, total: float, read_every: int, on_step: Callable[[int, float], None]
    ) -> None:
        self.total = total
        self._read_every = read_every
        self._on_step = on_step
        self._unread: list[tuple[int, Tensor, Tensor]] = []

    def add(self, step: int, *, loss: Tensor, grad_norm: Tensor | None) -> None:
        """Note one step; may read.

        Args:
            step: Steps done, this one included.
            loss: Its loss, a scalar.
            grad_norm: Norm of its gradient, where it was computed.

        Raises:
            TrainingDivergedError: One of the steps read was not finite.
        """
        loss = loss.detach()
        self._unread.append((step, loss, loss if grad_norm is None else grad_norm.detach()))
        if len(self._unread) >= self._read_every:
            self.read()

    def read(self) -> None:
        """Read whatever is unread.

        Raises:
            TrainingDivergedError: One of the steps was not finite.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return
        values = torch.stack([torch.stack((loss, norm)) for _, loss, norm in unread]).tolist()
        for (step, _, _), (loss, norm) in zip(unread, values, strict=True):
            _require_finite("loss", loss, step=step)
            _require_finite("gradient", norm, step=step)
            self.total += loss
            self._on_step(step, loss)


def _require_finite(what: str, value: float, *, step: int) -> None:
    if not math.isfinite(value):
        raise TrainingDivergedError(
            f"step {step} of the round",
            f"the {what} became {value}",
            "Lower the learning rate, set clip_grad_norm, or use float32.",
        )
