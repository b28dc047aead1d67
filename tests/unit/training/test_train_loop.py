"""The loop: what it reports, refuses, saves."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from fedvol.config.learning import AdamW, Sgd, Training
from fedvol.data.batch import Batch
from fedvol.errors import CheckpointError, TimeLimitError, TrainingDivergedError
from fedvol.training import LocalCheckpoint, Progress, TrainResult, Watch, Window, threads, train
from fedvol.training.losses import LossRecord
from fedvol.types import Digest

PLAN = Digest("a" * 64)
CPU = torch.device("cpu")


class Regression:
    """Mean squared distance from the network's output to the label."""

    def loss(self, net: nn.Module, batch: Batch) -> torch.Tensor:
        return (net(batch.image)[:, 0] - batch.label).square().mean()


class Noise:
    """Batches that are functions of the step; remembers which were asked for."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def batch(self, step: int) -> Batch:
        self.steps.append(step)
        generator = torch.Generator().manual_seed(step)
        image = torch.randn(2, 1, 3, 3, 3, generator=generator)
        return Batch(image=image, label=(image[:, 0] > 0).long())


class Saves(LocalCheckpoint):
    """Remembers after which steps it was asked to save."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, plan=PLAN, stage=0, round=1)
        self.steps: list[int] = []

    def save(self, progress: Progress) -> None:
        self.steps.append(progress.steps)
        super().save(progress)


def linear(bias: float = 0.0) -> nn.Module:
    net = nn.Conv3d(1, 1, 1)
    nn.init.constant_(net.weight, 0.5)
    nn.init.constant_(net.bias, bias)
    return net


def config(**changes: object) -> Training:
    optimiser = Sgd(kind="sgd", learning_rate=0.1)
    return Training(optimiser=optimiser, num_threads=1).model_copy(update=changes)


def run(
    net: nn.Module,
    *,
    training: Training | None = None,
    objective: object = None,
    batches: Noise | None = None,
    first_step: int = 0,
    num_steps: int = 4,
    total_steps: int = 100,
    checkpoint: LocalCheckpoint | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    return train(
        net,
        objective=objective or Regression(),
        batches=batches or Noise(),
        config=training or config(),
        window=Window(first_step=first_step, num_steps=num_steps, total_steps=total_steps),
        device=CPU,
        watch=Watch(checkpoint=checkpoint, on_step=on_step, should_stop=should_stop),
    )


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_loop_is_a_plain_pytorch_loop(clip: float) -> None:
    plain, looped = linear(), linear()
    optimiser = torch.optim.SGD(
        plain.parameters(), lr=0.1, momentum=0.99, weight_decay=3e-5, nesterov=True
    )
    losses = []
    for step in range(5, 9):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 20) ** 0.9
        optimiser.zero_grad()
        loss = Regression().loss(plain, Noise().batch(step))
        loss.backward()
        if clip > 0:
            nn.utils.clip_grad_norm_(plain.parameters(), clip)
        optimiser.step()
        losses.append(loss.item())
    seen: list[tuple[int, float]] = []
    batches = Noise()
    result = run(
        looped,
        training=config(clip_grad_norm=clip),
        batches=batches,
        first_step=5,
        total_steps=20,
        on_step=lambda step, loss: seen.append((step, loss)),
    )
    for mine, reference in zip(looped.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, reference)
    assert batches.steps == [5, 6, 7, 8]
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    assert [loss for _, loss in seen] == pytest.approx(losses, rel=1e-5)
    assert result.loss == pytest.approx(sum(losses) / 4, rel=1e-5)
    assert result.steps == 4
    assert result.seconds > 0


def test_network_is_left_in_training_mode_and_in_the_layout_asked_for() -> None:
    net = nn.Conv3d(2, 3, 3, padding=1).eval()

    class Sum:
        def loss(self, net: nn.Module, batch: Batch) -> torch.Tensor:
            assert net.training
            assert batch.image.is_contiguous(memory_format=torch.channels_last_3d)
            return net(batch.image.repeat(1, 2, 1, 1, 1)).square().mean()

    run(net, objective=Sum(), num_steps=1)
    assert net.weight.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_names_the_step(bad: float) -> None:
    class Breaks(Regression):
        calls = 0

        def loss(self, net: nn.Module, batch: Batch) -> torch.Tensor:
            self.calls += 1
            loss = super().loss(net, batch)
            return loss * bad if self.calls == 3 else loss

    seen: list[int] = []
    with pytest.raises(TrainingDivergedError, match="FV-FED-004 step 3 of the round: the loss"):
        run(linear(), objective=Breaks(), on_step=lambda step, loss: seen.append(step))
    assert seen == [1, 2]


def test_gradient_that_is_not_finite_is_divergence_too() -> None:
    class Root:
        def loss(self, net: nn.Module, batch: Batch) -> torch.Tensor:
            return (net(batch.image) * 0).sum().abs().sqrt()

    with pytest.raises(TrainingDivergedError, match="step 1 of the round: the gradient"):
        run(linear(), objective=Root())


def test_diverged_weights_are_not_saved(tmp_path: Path) -> None:
    class Nan:
        def loss(self, net: nn.Module, batch: Batch) -> torch.Tensor:
            return net(batch.image).sum() * float("nan")

    checkpoint = Saves(tmp_path / "progress")
    with pytest.raises(TrainingDivergedError):
        run(
            linear(),
            objective=Nan(),
            training=config(checkpoint_every_s=1e-9),
            checkpoint=checkpoint,
        )
    assert checkpoint.steps == []


@pytest.mark.parametrize(("every_s", "steps"), [(1e-9, [1, 2, 3, 4]), (1e9, [])])
def test_progress_is_saved_when_due(tmp_path: Path, every_s: float, steps: list[int]) -> None:
    checkpoint = Saves(tmp_path / "progress")
    run(linear(), training=config(checkpoint_every_s=every_s), checkpoint=checkpoint)
    assert checkpoint.steps == steps


def test_stop_saves_and_a_second_call_goes_on(tmp_path: Path) -> None:
    whole, parts = linear(), linear()
    expected = run(whole)
    checkpoint = Saves(tmp_path / "progress")
    answers = iter([False, True])
    with pytest.raises(TimeLimitError, match="stopped after step 2 of 4"):
        run(parts, checkpoint=checkpoint, should_stop=lambda: next(answers))
    seen: list[int] = []
    result = run(
        linear(bias=9.0), checkpoint=checkpoint, on_step=lambda step, loss: seen.append(step)
    )
    assert seen == [3, 4]
    assert result.loss == expected.loss
    assert result.steps == 4


def test_stop_after_the_last_step_is_too_late() -> None:
    assert run(linear(), num_steps=1, should_stop=lambda: True).steps == 1


@pytest.mark.parametrize("change", [{"plan": "b" * 64}, {"stage": 1}, {"round": 2}])
def test_checkpoint_of_another_round_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "progress"
    run(linear(), training=config(checkpoint_every_s=1e-9), checkpoint=Saves(path))
    identity = {"plan": PLAN, "stage": 0, "round": 1} | change
    with pytest.raises(CheckpointError, match=next(iter(change))):
        run(linear(), checkpoint=LocalCheckpoint(path, **identity))


def test_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    run(linear(), training=config(checkpoint_every_s=1e-9), checkpoint=Saves(path))
    with pytest.raises(CheckpointError):
        run(nn.Sequential(nn.Conv3d(1, 1, 1)), checkpoint=Saves(path))


def test_cleared_checkpoint_is_gone(tmp_path: Path) -> None:
    checkpoint = Saves(tmp_path / "progress")
    run(linear(), training=config(checkpoint_every_s=1e-9), checkpoint=checkpoint)
    assert checkpoint.load() is not None
    checkpoint.clear()
    assert checkpoint.load() is None
    assert list(tmp_path.iterdir()) == []
    checkpoint.clear()


def test_half_precision_keeps_float32_weights_and_loss() -> None:
    net = nn.Conv3d(1, 1, 3, padding=1)
    dtypes = []

    class Spy:
        def loss(self, net: nn.Module, batch: Batch) -> torch.Tensor:
            output = net(batch.image)
            dtypes.append(output.dtype)
            return output.float().square().mean()

    result = run(
        net,
        objective=Spy(),
        training=config(precision="bfloat16", optimiser=AdamW(kind="adamw")),
        num_steps=2,
    )
    assert dtypes == [torch.bfloat16] * 2
    assert net.weight.dtype is torch.float32
    assert {array.dtype.name for array in result.optimiser_state.values()} == {"float32"}


def test_losses_are_read_in_bunches_and_in_order() -> None:
    seen: list[tuple[int, float]] = []
    record = LossRecord(total=10.0, read_every=3, on_step=lambda *step: seen.append(step))
    for step in (1, 2):
        record.add(step, loss=torch.tensor(float(step)), grad_norm=None)
    assert seen == []
    record.add(3, loss=torch.tensor(3.0), grad_norm=torch.tensor(1.0))
    assert seen == [(1, 1.0), (2, 2.0), (3, 3.0)]
    record.add(4, loss=torch.tensor(4.0), grad_norm=torch.tensor(float("inf")))
    with pytest.raises(TrainingDivergedError, match="step 4 of the round: the gradient"):
        record.read()
    assert record.total == 16.0


def test_threads_are_given_back_whatever_happens() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with pytest.raises(KeyError), threads(before + 2):
        raise KeyError
    assert torch.get_num_threads() == before
