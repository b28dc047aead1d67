"""Interrupted and resumed training is uninterrupted training, bit for bit."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedvol.config.learning import AdamW, Optimiser, SegmentationTask, Sgd, Training
from fedvol.config.network import Network, ResidualEncoderUNet, UNet
from fedvol.data.batch import Batch
from fedvol.models import build_network, to_arrays
from fedvol.tasks import build_objective
from fedvol.training import (
    ControlVariate,
    Correction,
    LocalCheckpoint,
    Progress,
    Pull,
    TrainResult,
    Watch,
    Window,
    threads,
    train,
)
from fedvol.types import Digest, State

NUM_STEPS = 6
NETWORKS: dict[str, Network] = {
    "instance": UNet(kind="unet", features=(4, 6), convs_per_stage=1),
    "batch": ResidualEncoderUNet(
        kind="resenc_unet", features=(4, 6), blocks_per_stage=(1, 1), norm="batch"
    ),
}
OPTIMISERS: dict[str, Optimiser] = {
    "sgd": Sgd(kind="sgd", learning_rate=0.01),
    "adamw": AdamW(kind="adamw"),
}


class KilledError(Exception):
    """Stands for the end of the process."""


class Noise:
    """Batches as functions of the step."""

    def batch(self, step: int) -> Batch:
        image = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(step))
        return Batch(image=image, label=(image[:, 0] > 0.5).long())


class Sparse(LocalCheckpoint):
    """Keeps only every n-th save, as a long interval would."""

    def __init__(self, path: Path, *, every: int) -> None:
        super().__init__(path, plan=Digest("a" * 64), stage=0, round=1)
        self._every = every

    def save(self, progress: Progress) -> None:
        if progress.steps % self._every == 0:
            super().save(progress)


def run(
    network: str,
    optimiser: str,
    *,
    start: State | None = None,
    first_step: int = 0,
    num_steps: int = NUM_STEPS,
    moments: State | None = None,
    checkpoint: LocalCheckpoint | None = None,
    kill_at: int | None = None,
    mu: float | None = None,
    has_control: bool = False,
) -> tuple[State, TrainResult]:
    """One process: everything is built anew."""
    net = build_network(NETWORKS[network], in_channels=1, num_classes=2)
    if start is not None:
        net.load_state_dict({name: torch.tensor(array) for name, array in start.items()})
    objective = build_objective(SegmentationTask(kind="segmentation"), num_classes=2)
    correction: Correction | None = None
    if mu is not None:
        correction = Pull(strength=mu, net=net)
    if has_control:
        names = [name for name, _ in net.named_parameters()]
        shared, own = (noise(to_arrays(net, names), seed=seed) for seed in (1, 2))
        correction = ControlVariate(net=net, shared=shared, own=own)

    def on_step(step: int, loss: float) -> None:
        if step == kill_at:
            raise KilledError

    with threads(1):
        result = train(
            net,
            objective=objective,
            batches=Noise(),
            config=Training(
                optimiser=OPTIMISERS[optimiser], num_threads=1, checkpoint_every_s=1e-9
            ),
            window=Window(first_step=first_step, num_steps=num_steps, total_steps=12),
            device=torch.device("cpu"),
            optimiser_state=moments,
            correction=correction,
            watch=Watch(checkpoint=checkpoint, on_step=on_step),
        )
    gathered = correction.to_arrays() if correction is not None else {}
    return {**to_arrays(net), **gathered}, result


def noise(like: State, *, seed: int) -> State:
    generator = np.random.default_rng(seed)
    return {
        name: (0.01 * generator.standard_normal(array.shape)).astype(np.float32)
        for name, array in like.items()
    }


def assert_same_bits(ours: State, theirs: State) -> None:
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert array.tobytes() == theirs[name].tobytes(), name


@pytest.mark.parametrize("correction", [{}, {"mu": 0.1}, {"has_control": True}], ids=str)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_killed_and_resumed_is_uninterrupted(
    network: str, optimiser: str, correction: dict[str, Any]
) -> None:
    # The round begins with moments of an earlier one.
    start, earlier = run(network, optimiser, num_steps=2)

    def round_two(**further: Any) -> tuple[State, TrainResult]:
        return run(
            network,
            optimiser,
            start=start,
            first_step=2,
            moments=earlier.optimiser_state,
            **correction,
            **further,
        )

    expected_weights, expected = round_two()

    @settings(max_examples=4, deadline=None)
    @given(kills=st.lists(st.integers(1, NUM_STEPS), max_size=4), every=st.sampled_from([1, 2, 4]))
    def check(kills: list[int], every: int) -> None:
        with TemporaryDirectory() as folder:
            checkpoint = Sparse(Path(folder) / "progress", every=every)
            for kill_at in kills:
                before = checkpoint.load()
                if kill_at > (before.steps if before else 0):
                    with pytest.raises(KilledError):
                        round_two(checkpoint=checkpoint, kill_at=kill_at)
            weights, result = round_two(checkpoint=checkpoint)
        assert_same_bits(weights, expected_weights)
        assert_same_bits(result.optimiser_state, expected.optimiser_state)
        assert result.loss == expected.loss
        assert result.steps == expected.steps

    check()


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_two_rounds_that_keep_the_moments_are_one_long_round(optimiser: str) -> None:
    whole, long_round = run("instance", optimiser, num_steps=6)
    half, first = run("instance", optimiser, num_steps=3)
    parts, second = run(
        "instance",
        optimiser,
        start=half,
        first_step=3,
        num_steps=3,
        moments=first.optimiser_state,
    )
    assert_same_bits(parts, whole)
    assert (first.loss + second.loss) / 2 == pytest.approx(long_round.loss, rel=1e-12)
    forgetful, _ = run("instance", optimiser, start=half, first_step=3, num_steps=3)
    assert any(forgetful[name].tobytes() != whole[name].tobytes() for name in whole)


def test_no_pull_is_plain_training_bit_for_bit() -> None:
    plain, without = run("instance", "adamw")
    pulled, with_zero = run("instance", "adamw", mu=0.0)
    assert_same_bits(pulled, plain)
    assert with_zero.loss == without.loss


def test_a_strong_pull_keeps_the_weights_near_the_global_ones() -> None:
    start = to_arrays(build_network(NETWORKS["instance"], in_channels=1, num_classes=2))

    def distance(mu: float) -> float:
        weights, _ = run("instance", "sgd", mu=mu)
        return sum(float(((weights[name] - start[name]) ** 2).sum()) for name in start)

    assert distance(10.0) < 0.8 * distance(0.0)
