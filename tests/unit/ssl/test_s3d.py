"""SparkMAE: nothing leaks out of masked blocks, nothing else differs from the ordinary network."""

import pytest
import torch
from every_network import EVERY
from structured import learn, structured_volumes
from torch import nn
from torch.utils.checkpoint import checkpoint

from fedvol.config.levels import NormKind
from fedvol.config.network import Network, ResidualEncoderPreset, ResidualEncoderUNet, UNet
from fedvol.config.open_study import OpenUNet
from fedvol.config.pretext import SparkMAE
from fedvol.config.pretext_checks import s3d_on
from fedvol.data.batch import UnlabelledBatch
from fedvol.errors import NetworkConfigError
from fedvol.models import build_network, load_arrays, to_arrays
from fedvol.models.encoders import encoder_of
from fedvol.models.norms import build_norm
from fedvol.models.state import describe
from fedvol.plan import TensorKind
from fedvol.ssl.s3d import SparseUNet, s3d_network, s3d_task
from fedvol.ssl.sparse import Visible, apply_sparsely

PATCH = (16, 16, 8)
CONFIG = SparkMAE(kind="s3d", block=4)
TINY = UNet(kind="unet", features=(4, 6, 8, 8))
THIN = ResidualEncoderUNet(
    kind="resenc_unet",
    features=(4, 6, 8, 8),
    blocks_per_stage=(1, 2, 1, 1),
    strides=((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 1, 2)),
    kernels=((3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    norm="group",
)
NETWORKS: tuple[Network, ...] = (
    TINY,
    THIN,
    UNet(kind="unet", features=(4, 6, 8), norm="none", convs_per_stage=1),
    ResidualEncoderUNet(kind="resenc_unet", features=(4, 6, 8), blocks_per_stage=(1, 1, 2)),
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sparse_network(network: Network, *, channels: int = 1, seed: int = 0) -> SparseUNet:
    net = s3d_network(CONFIG, network, in_channels=channels, patch=PATCH, seed=seed)
    assert isinstance(net, SparseUNet)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():  # biases and norm weights such as training makes them
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return net


def some_masked(size: int = 2, *, seed: int = 0) -> torch.Tensor:
    """Which blocks are masked, of patches of `PATCH`."""
    batch = UnlabelledBatch(image=torch.zeros(size, 1, *PATCH), seed=seed)
    return s3d_task(CONFIG).transform(batch).blocks


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_with_everything_visible_the_encoder_is_the_plain_one(network: Network) -> None:
    net = sparse_network(network, channels=2)
    plain = build_network(network, in_channels=2, num_classes=3)
    ours = {n: a for n, a in to_arrays(net).items() if n.startswith(("stem", "encoder"))}
    load_arrays(plain, ours)
    x = noise(2, 2, *PATCH)
    visible = Visible(torch.ones(2, 4, 4, 2, dtype=torch.bool))
    for sparse, dense in zip(net.encode(x, visible), encoder_of(plain)(x), strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_nothing_depends_on_masked_voxels(network: Network) -> None:
    net, masked = sparse_network(network), some_masked()
    x = noise(2, 1, *PATCH)
    hidden = masked.unsqueeze(1)
    for axis in (2, 3, 4):
        hidden = hidden.repeat_interleave(4, dim=axis)
    changed = torch.where(hidden, 100.0 * noise(2, 1, *PATCH, seed=1), x)
    before, after = (net.encode(image, Visible(~masked)) for image in (x, changed))
    for level, (a, b) in enumerate(zip(before, after, strict=True)):
        assert torch.equal(a, b), level
    assert torch.equal(net(x, ~masked), net(changed, ~masked))
    seen = torch.where(hidden, x, noise(2, 1, *PATCH, seed=1))
    for a, b in zip(before, net.encode(seen, Visible(~masked)), strict=True):
        assert not torch.allclose(a, b)


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_features_are_0_where_they_are_masked_and_nowhere_else(network: Network) -> None:
    masked = some_masked()
    levels = sparse_network(network).encode(noise(2, 1, *PATCH), Visible(~masked))
    for features in levels:
        visible = Visible(~masked).on(tuple(features.shape[2:]))
        is_zero = (features == 0).all(1, keepdim=True)
        expected = torch.zeros_like(is_zero) if visible is None else ~visible
        assert torch.equal(is_zero, expected)


def test_positions_larger_than_a_block_count_as_visible() -> None:
    visible = Visible(~some_masked())
    assert visible.on((4, 4, 2)) is not None
    assert visible.on((2, 2, 1)) is None
    assert visible.on((16, 16, 1)) is None  # coarser along one axis


@pytest.mark.parametrize("kind", ["instance", "group"])
def test_norm_has_the_statistics_of_visible_positions(kind: NormKind) -> None:
    norm = build_norm(kind, num_channels=32)
    with torch.no_grad():
        for weight, seed in ((norm.weight, 1), (norm.bias, 2)):
            weight.copy_(noise(32, seed=seed))
    masked = some_masked()
    visible = Visible(~masked)
    x = visible.keep(3.0 + 2.0 * noise(2, 32, *PATCH))
    normed = apply_sparsely(norm, x, visible)
    mask = visible.on(PATCH)
    assert mask is not None
    for sample in range(2):
        chosen = mask[sample, 0]
        alone = norm(x[sample][:, chosen][None, :, :, None, None])[0, :, :, 0, 0]
        torch.testing.assert_close(normed[sample][:, chosen], alone, rtol=1e-4, atol=1e-5)
        assert (normed[sample][:, ~chosen] == 0).all()


def test_stem_encoder_and_decoder_have_the_names_of_the_ordinary_network() -> None:
    network = ResidualEncoderUNet(
        kind="resenc_unet", features=(4, 6, 8), blocks_per_stage=(1, 1, 1)
    )
    net = sparse_network(network)
    plain = build_network(network, in_channels=1, num_classes=3)
    ends = ("densify", "heads")
    ours = {s.name: (s.shape, s.kind) for s in describe(net) if not s.name.startswith(ends)}
    assert ours == {
        s.name: (s.shape, s.kind) for s in describe(plain) if not s.name.startswith(ends)
    }
    made = {s.name: s.kind for s in describe(net) if s.name.startswith("densify")}
    assert made == {
        "densify.0.token": TensorKind.HEAD,
        "densify.1.token": TensorKind.HEAD,
        "densify.1.norm.weight": TensorKind.NORM,
        "densify.1.norm.bias": TensorKind.NORM,
        "densify.1.conv.weight": TensorKind.HEAD,
        "densify.1.conv.bias": TensorKind.HEAD,
        "densify.2.token": TensorKind.HEAD,
        "densify.2.norm.weight": TensorKind.NORM,
        "densify.2.norm.bias": TensorKind.NORM,
        "densify.2.conv.weight": TensorKind.HEAD,
        "densify.2.conv.bias": TensorKind.HEAD,
    }


@pytest.mark.parametrize("network", [TINY, THIN], ids=repr)
def test_every_parameter_gets_a_gradient_and_coarse_levels_have_no_token(
    network: Network,
) -> None:
    net = s3d_network(CONFIG, network, in_channels=2, patch=PATCH, seed=0).train()
    s3d_task(CONFIG).loss(net, UnlabelledBatch(image=noise(1, 2, *PATCH), seed=0)).backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None, name
        # A bias before a norm layer is taken out again: its gradient is rounding only.
        if not name.endswith("conv.bias"):
            assert weight.grad.abs().max() > 0, name
    tokens = [name for name, _ in net.named_parameters() if name.endswith("token")]
    assert tokens == ["densify.0.token", "densify.1.token", "densify.2.token"]


def test_tokens_stand_at_masked_positions_alone() -> None:
    masked = some_masked()
    visible = Visible(~masked)
    x = visible.keep(noise(2, 4, *PATCH))
    token = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1, 1)
    filled, mask = visible.fill(x, token), visible.on(PATCH)
    assert mask is not None
    assert torch.equal(filled, x + token * ~mask)


def test_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (
        to_arrays(s3d_network(CONFIG, TINY, in_channels=1, patch=PATCH, seed=seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(array.tobytes() == again[name].tobytes() for name, array in first.items())
    for name in ("stem.conv.weight", "densify.0.token", "densify.1.conv.weight"):
        assert first[name].tobytes() != other[name].tobytes()


def test_gradient_survives_recomputed_activations() -> None:
    net, masked = sparse_network(TINY), some_masked()
    other = some_masked(seed=1)
    x = noise(2, 1, *PATCH)
    net(x, ~masked).square().mean().backward()
    plain = {name: weight.grad for name, weight in net.named_parameters()}
    net.zero_grad()
    output = checkpoint(net, x, ~masked, use_reentrant=False)
    net(x, ~other)  # masks are arguments: another pass in between changes nothing
    output.square().mean().backward()
    for name, weight in net.named_parameters():
        torch.testing.assert_close(weight.grad, plain[name])


def test_bfloat16_gives_a_float32_loss() -> None:
    net = sparse_network(TINY)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = s3d_task(CONFIG).loss(net, UnlabelledBatch(image=noise(2, 1, *PATCH), seed=0))
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(weight.grad.isfinite().all() for weight in net.parameters())


def test_layout_changes_speed_only() -> None:
    net, masked, x = sparse_network(TINY), some_masked(), noise(2, 1, *PATCH)
    plain = net(x, ~masked)
    net.to(memory_format=torch.channels_last_3d)
    other = net(x.to(memory_format=torch.channels_last_3d), ~masked)
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-5)


def test_restoring_is_learned() -> None:
    task = s3d_task(CONFIG)
    network = UNet(kind="unet", features=(4, 8))
    net = s3d_network(CONFIG, network, in_channels=1, patch=(16, 16, 16), seed=0)
    images = structured_volumes(8, 16, seed=0)
    learn(task, net, images=images[:6], batch_size=2, steps=25, rate=1e-2)
    score = task.score(net, UnlabelledBatch(image=images[6:], seed=100))
    assert score.loss < 0.5 * score.trivial_loss


@pytest.mark.full
def test_network_is_compiled_whole() -> None:
    """Only what `torch.compile` follows is at stake, so no C++ compiler is needed."""
    net, masked, x = sparse_network(THIN), some_masked(), noise(2, 1, *PATCH)
    torch.compiler.reset()
    run = torch.compile(net, fullgraph=True, dynamic=False, backend="aot_eager")
    found = run(x, ~masked)
    found.square().mean().backward()
    torch.testing.assert_close(found, net(x, ~masked))
    torch.compiler.reset()


def test_other_networks_and_layers_are_refused() -> None:
    small = EVERY["dynunet"]
    with pytest.raises(NetworkConfigError, match="dynunet cannot be applied"):
        s3d_network(CONFIG, small.config, in_channels=1, patch=small.patch, seed=0)
    visible = Visible(~some_masked())
    with pytest.raises(NetworkConfigError, match="BatchNorm3d cannot be applied"):
        apply_sparsely(nn.BatchNorm3d(1), noise(2, 1, *PATCH), visible)


@pytest.mark.parametrize(
    ("config", "patch", "network", "where", "what"),
    [
        (CONFIG, PATCH, TINY, [], ""),
        (CONFIG, PATCH, THIN, [], ""),
        (
            SparkMAE(kind="s3d"),
            (160, 160, 160),
            ResidualEncoderPreset(kind="resenc_preset", size="L"),
            [],
            "",
        ),
        (CONFIG, (32, 32, 32), EVERY["vnet"].config, ["network.kind"], "not made for vnet"),
        (
            CONFIG,
            PATCH,
            UNet(kind="unet", features=(4, 6), norm="batch"),
            ["network.norm"],
            "over the batch",
        ),
        (CONFIG, (16, 16, 10), TINY, ["task.block"], "10 voxels along k"),
        (
            SparkMAE(kind="s3d", block=4),
            (48, 48, 48),
            UNet(kind="unet", features=(4, 6), strides=((1, 1, 1), (3, 1, 1))),
            ["task.block"],
            "stage 1, which has one for [3, 1, 1] voxels",
        ),
        (
            SparkMAE(kind="s3d", block=8, mask_ratio=0.8),
            (16, 16, 8),
            UNet(kind="unet", features=(4, 6, 8, 8)),
            ["task.mask_ratio"],
            "stage 3 would see a single voxel",
        ),
        (
            SparkMAE(kind="s3d", block=8, mask_ratio=0.8),
            (16, 16, 8),
            UNet(kind="unet", features=(4, 6, 8, 8), norm="group"),
            [],
            "",
        ),
        (CONFIG, PATCH, OpenUNet(kind="unet"), [], ""),
        (CONFIG, (16, 16, 16), OpenUNet(kind="unet", norm="batch"), ["network.norm"], "batch"),
    ],
)
def test_checks(
    config: SparkMAE,
    patch: tuple[int, int, int],
    network: Network,
    where: list[str],
    what: str,
) -> None:
    problems = list(s3d_on(config, where="task", patch=patch, network=network))
    assert [problem.where for problem in problems] == where
    assert all(what in problem.what for problem in problems)
