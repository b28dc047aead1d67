"""PCT-Net: its grids, its flat levels, its outputs, its gradients; that it learns."""

from collections.abc import Iterator

import pytest
import torch
from every_network import EVERY, network, network_shape
from torch import nn

from fedvol.config.learning import AdamW, SegmentationTask, Training
from fedvol.config.network import PCTNet
from fedvol.data.batch import Batch
from fedvol.models import build_network, to_arrays
from fedvol.models.encoders import encoder_of, num_features
from fedvol.tasks import SegmentationObjective
from fedvol.training import Watch, Window, threads, train

SMALL = EVERY["pct_net"].config
PATCH = (32, 16, 16)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threads(1):
        yield


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small(**keys: object) -> nn.Module:
    return build_network(
        SMALL.model_copy(update=keys), in_channels=1, num_classes=3, patch=PATCH, seed=1
    )


@pytest.mark.parametrize(
    ("flat_stages", "grids"),
    [
        (0, [(128, 128, 64), (64, 64, 32), (32, 32, 16), (16, 16, 8), (8, 8, 4)]),
        (1, [(128, 128, 64), (64, 64, 64), (32, 32, 32), (16, 16, 16), (8, 8, 8)]),
        (2, [(128, 128, 64), (64, 64, 64), (32, 32, 64), (16, 16, 32), (8, 8, 16)]),
    ],
)
def test_grids_of_the_published_size(flat_stages: int, grids: list[tuple[int, ...]]) -> None:
    config = network(kind="pct_net", flat_stages=flat_stages)
    net = network_shape(config, in_channels=1, num_classes=5).train()
    x = torch.empty(1, 1, 128, 128, 64, device="meta")
    features = encoder_of(net)(x)
    assert [tuple(y.shape[2:]) for y in features] == grids
    assert [y.shape[1] for y in features] == [24, 48, 128, 256, 512]
    assert [tuple(y.shape) for y in net(x)] == [(1, 5, 128, 128, 64)] * 4
    assert [tuple(y.shape) for y in net.eval()(x)] == [(1, 5, 128, 128, 64)]


def test_coarse_outputs_have_the_published_grids_before_they_are_brought_to_the_finest() -> None:
    net = small().train()
    raw: list[torch.Tensor] = []
    for head in net.heads:
        head.register_forward_hook(lambda module, given, logits: raw.append(logits))
    outputs = net(noise(2, 1, *PATCH))
    raw.reverse()  # the coarsest is made first
    assert [tuple(y.shape[2:]) for y in raw] == [PATCH, (16, 8, 16), (8, 4, 8), (4, 2, 4)]
    # The corners of the coarse grid keep their values, and nothing exceeds them.
    for output, logits in zip(outputs, raw, strict=True):
        torch.testing.assert_close(output[:, :, 0, 0, 0], logits[:, :, 0, 0, 0])
        torch.testing.assert_close(output[:, :, -1, -1, -1], logits[:, :, -1, -1, -1])
        assert output.max() <= logits.max() + 1e-5


def test_outputs_count_by_halves_against_the_whole_label() -> None:
    net = small().train()
    x = noise(2, 1, *PATCH)
    label = torch.randint(0, 3, (2, *PATCH), generator=torch.Generator().manual_seed(0))
    objective = SegmentationObjective(SegmentationTask(kind="segmentation"), num_classes=3)
    losses = [objective.output_loss(logits, label) for logits in net(x)]
    expected = (losses[0] + losses[1] / 2 + losses[2] / 4 + losses[3] / 8) / 1.875
    torch.testing.assert_close(objective.loss(net, Batch(image=x, label=label)), expected)


@pytest.mark.parametrize("flat_stages", [0, 2])
@pytest.mark.parametrize("norm", ["instance", "group"])
def test_every_parameter_gets_a_gradient(flat_stages: int, norm: str) -> None:
    """What mode 1 and batch norm do is among the tests of every network."""
    net = small(flat_stages=flat_stages, norm=norm).train()
    sum(y.square().sum() for y in net(noise(2, 1, 32, 32, 16))).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        if not key.endswith(("conv.bias", "stem.bias")):
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize(("flat_stages", "is_flat"), [(0, False), (1, True), (2, True)])
def test_flat_levels_stay_within_their_slice(flat_stages: int, is_flat: bool) -> None:
    encoder = encoder_of(small(flat_stages=flat_stages)).eval()
    x = noise(1, 1, *PATCH)
    other = x.clone()
    other[..., 8] += 1
    changed = [
        (one != two).flatten(0, -2).any(0)
        for one, two in zip(encoder(x), encoder(other), strict=True)
    ]
    slices = [int(one.sum()) for one in changed]
    assert changed[0][8]
    assert (slices[0] == 1) == is_flat
    assert (slices[1] == 1) == (flat_stages == 2)
    assert bool(changed[2].all()) or slices[2] > 1


def test_one_embedding_is_built() -> None:
    """Kernels and strides differ by mode; names, and so what transfers by name, do not."""
    names = [list(to_arrays(small(flat_stages=flat))) for flat in (0, 1, 2)]
    assert names[0] == names[1] == names[2]
    convolutions = {
        flat: [m for m in small(flat_stages=flat).modules() if isinstance(m, nn.Conv3d)]
        for flat in (0, 1, 2)
    }
    flat = {key: sum(m.kernel_size == (3, 3, 1) for m in ms) for key, ms in convolutions.items()}
    assert flat == {0: 0, 1: 6, 2: 12}


def test_without_deep_supervision_there_is_one_head() -> None:
    net = small(deep_supervision=False).train()
    assert len(net.heads) == 1
    assert len(net(noise(2, 1, *PATCH))) == 1


def test_encoder_has_the_networks_names_and_features() -> None:
    net = small().train()
    encoder = encoder_of(net)
    whole = net.state_dict()
    own = encoder.state_dict()
    assert own.keys() == {key for key in whole if key.startswith(("stem.", "encoder."))}
    assert all(own[key].data_ptr() == whole[key].data_ptr() for key in own)
    assert num_features(encoder) == encoder(noise(2, 1, *PATCH))[-1].shape[1] == 12


def test_dropout_follows_from_the_batch_and_ends_with_training() -> None:
    net = small()
    x, other = noise(2, 1, *PATCH), noise(2, 1, *PATCH, seed=1)
    still = small(dropout=(0.0,) * 5)
    assert not torch.equal(net.train()(x)[0], still.train()(x)[0])
    assert torch.equal(net(x)[0], net(x)[0])
    assert not torch.equal(net(other)[0], net(x)[0])
    net.load_state_dict(still.state_dict())
    assert torch.equal(net.eval()(x)[0], still.eval()(x)[0])


class Sticks:
    """Noisy sticks across few slices."""

    def batch(self, step: int) -> Batch:
        label = torch.zeros(2, 32, 16, 8, dtype=torch.int64)
        label[0, 6:14, 4:12] = 1
        label[0, 18:28, 2:8, 2:] = 2
        label[1, 10:26, 8:14, :6] = 1
        image = label.float()[:, None] + 0.3 * noise(2, 1, 32, 16, 8, seed=step)
        return Batch(image=image, label=label)


def test_learns_thin_patches() -> None:
    losses: list[float] = []
    train(
        small(flat_stages=2, norm="instance", drop_path=0.2),
        objective=SegmentationObjective(SegmentationTask(kind="segmentation"), num_classes=3),
        batches=Sticks(),
        config=Training(optimiser=AdamW(kind="adamw", learning_rate=0.01), num_threads=1),
        window=Window(first_step=0, num_steps=15, total_steps=30),
        device=torch.device("cpu"),
        watch=Watch(on_step=lambda step, loss: losses.append(loss)),
    )
    assert losses[-1] < 0.7 * losses[0], losses


def test_defaults_are_the_papers() -> None:
    config = PCTNet(kind="pct_net")
    assert config.flat_stages == 1
    assert config.norm == "batch"
    assert config.dropout == (0, 0, 0.2, 0.2, 0.2)
