"""Training through `torch.compile` is the same training, but for round-off."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import LastState, make_federation, tiny_study
from torch._dynamo.utils import counters

from fedvol.client.cases import SiteCases
from fedvol.config.learning import SegmentationTask, Sgd, Training
from fedvol.config.network import UNet
from fedvol.data.batch import Batch
from fedvol.errors import TimeLimitError
from fedvol.models import build_network, load_arrays, to_arrays
from fedvol.tasks import build_objective
from fedvol.training import (
    LocalCheckpoint,
    TrainResult,
    Watch,
    Window,
    only_trained,
    place,
    threads,
    train,
)
from fedvol.types import Digest, Json, SiteId, State
from fedvol.validation import SlidingWindow, single

pytestmark = pytest.mark.usefixtures("compiler")

CPU = torch.device("cpu")
PATCH = (8, 8, 8)
NUM_STEPS = 6


class Noise:
    """Batches as functions of the step."""

    def batch(self, step: int) -> Batch:
        image = torch.randn(2, 1, *PATCH, generator=torch.Generator().manual_seed(step))
        return Batch(image=image, label=(image[:, 0] > 0.5).long())


def network() -> torch.nn.Module:
    config = UNet(kind="unet", features=(4, 6), convs_per_stage=1, convs_per_decoder_stage=1)
    return build_network(config, in_channels=1, num_classes=2)


def training(*, is_compiled: bool) -> Training:
    """Plain gradient steps: a change of weights is as exact as its gradients."""
    return Training(
        optimiser=Sgd(kind="sgd", momentum=0.0, learning_rate=0.1),
        num_threads=1,
        checkpoint_every_s=1e-9,
        compile=is_compiled,
    )


def run(
    net: torch.nn.Module,
    *,
    is_compiled: bool,
    checkpoint: LocalCheckpoint | None = None,
    stop_after: int = NUM_STEPS,
) -> tuple[list[float], TrainResult]:
    """Losses of the steps, and the end of them."""
    losses: list[float] = []
    with threads(1):
        result = train(
            net,
            objective=build_objective(SegmentationTask(kind="segmentation"), num_classes=2),
            batches=Noise(),
            config=training(is_compiled=is_compiled),
            window=Window(first_step=0, num_steps=NUM_STEPS, total_steps=NUM_STEPS),
            device=CPU,
            watch=Watch(
                checkpoint=checkpoint,
                on_step=lambda step, loss: losses.append(loss),
                should_stop=lambda: len(losses) >= stop_after,
            ),
        )
    return losses, result


def num_graphs() -> int:
    return counters["stats"]["unique_graphs"]


def change(net: torch.nn.Module, start: State) -> np.ndarray:
    """All that training changed, as one vector."""
    arrays = to_arrays(net)
    return np.concatenate([(arrays[name] - start[name]).ravel() for name in start])


def test_losses_and_weights_are_those_of_plain_training() -> None:
    start = to_arrays(network())
    plain, compiled = network(), network()
    before = num_graphs()
    expected, _ = run(plain, is_compiled=False)
    assert num_graphs() == before
    losses, _ = run(compiled, is_compiled=True)
    assert num_graphs() == before + 1  # the whole network, once
    # float32 rounds at 6e-8; a sum of 2 x 8^3 voxels in another order is off by some 32 times as
    # much, and a handful of layers and steps stand behind a loss.
    assert losses == pytest.approx(expected, rel=2e-6)
    distance = np.linalg.norm(change(compiled, start) - change(plain, start))
    # A gradient is a difference of terms some ten times its size.
    assert 0 < distance < 2e-5 * np.linalg.norm(change(plain, start))


def test_weights_keep_their_names_and_the_network_its_type() -> None:
    compiled, fresh = network(), network()
    run(compiled, is_compiled=True)
    assert type(compiled) is type(fresh)
    assert list(to_arrays(compiled)) == list(to_arrays(fresh))
    assert not [name for name in compiled.state_dict() if "_orig_mod" in name]


def test_evaluation_does_not_know_how_the_network_was_trained() -> None:
    compiled, fresh = network(), network()
    run(compiled, is_compiled=True)
    place(fresh, training=training(is_compiled=False), device=CPU)
    load_arrays(fresh, to_arrays(compiled))
    window = SlidingWindow(patch=PATCH, overlap=0.5, mirror_axes=(0,), device=CPU)
    image = torch.randn(1, 12, 9, 8, generator=torch.Generator().manual_seed(1)).numpy()
    before = num_graphs()
    found, expected = (single(net, window=window)(image) for net in (compiled, fresh))
    assert found.tobytes() == expected.tobytes()
    assert num_graphs() == before


def test_stopped_and_resumed_has_the_bits_of_never_stopped(tmp_path: Path) -> None:
    whole, parts = network(), network()
    losses, expected = run(whole, is_compiled=True)
    torch.compiler.reset()  # as in a new process
    checkpoint = LocalCheckpoint(tmp_path / "progress", plan=Digest("a" * 64), stage=0, round=1)
    with pytest.raises(TimeLimitError):
        run(parts, is_compiled=True, checkpoint=checkpoint, stop_after=2)
    resumed = network()
    rest, result = run(resumed, is_compiled=True, checkpoint=checkpoint)
    assert rest == losses[2:]
    assert result.loss == expected.loss
    theirs = to_arrays(whole)
    for name, array in to_arrays(resumed).items():
        assert array.tobytes() == theirs[name].tobytes(), name


def test_rounds_and_sites_of_a_process_share_what_was_compiled() -> None:
    run(network(), is_compiled=True)
    before = num_graphs()
    site = network()
    for _ in range(2):
        run(site, is_compiled=True)
    run(network(), is_compiled=True)
    assert num_graphs() == before


def test_a_study_trains_as_it_does_without(
    tiny_cases: Mapping[SiteId, SiteCases], tmp_path: Path
) -> None:
    """Sites, server and the shared network included."""

    def played(name: str, *, line: str) -> tuple[list[Json], list[str]]:
        study = tiny_study(
            rounds="rounds = 2",
            optimiser='optimiser = { kind = "sgd", learning_rate = 0.01, momentum = 0.0 }',
            num_threads=f"num_threads = 1{line}",
        )
        folder = tmp_path / name
        federation = make_federation(study, cases=tiny_cases, folder=folder, digest="a" * 64)
        last = LastState(federation)
        federation.run()
        return [event["loss"] for event in last.named("site.training")], sorted(last.state)

    expected, names = played("plain", line="")
    losses, same_names = played("compiled", line="\ncompile = true")
    assert len(losses) == 2 * 3 * 3  # rounds, sites, steps
    assert losses == pytest.approx(expected, rel=2e-6)
    assert losses != expected  # else nothing was compiled
    assert same_names == names


@pytest.mark.full
def test_a_frozen_part_stays_as_it_is() -> None:
    net = network()
    start = to_arrays(net)
    heads = {name for name in start if name.startswith("heads.")}
    with only_trained(net, heads):
        run(net, is_compiled=True)
    changed = {
        name for name, array in to_arrays(net).items() if array.tobytes() != start[name].tobytes()
    }
    assert changed == heads
