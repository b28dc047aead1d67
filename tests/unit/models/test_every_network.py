"""What holds for every network: its parts, its norms, its weights, its outputs, its gradients."""

from collections.abc import Iterator
from typing import get_args

import pytest
import torch
from every_network import EVERY, Small, network_shape
from torch import nn
from torch._dynamo.exc import Unsupported

from fedvol.config.learning import AdamW, SegmentationTask, Training
from fedvol.config.monai_networks import MonaiNetwork
from fedvol.config.network import Network
from fedvol.config.patch_rule import patch_rule
from fedvol.config.stage_checks import NOT_COMPILED
from fedvol.data.batch import Batch
from fedvol.errors import NetworkConfigError
from fedvol.models import build_network, describe, to_arrays
from fedvol.models.convolution import Conv3d
from fedvol.models.norms import InstanceNorm
from fedvol.plan import TensorKind, TensorSpec
from fedvol.tasks import build_objective
from fedvol.training import Watch, Window, threads, train

NAMES = list(EVERY)
BUILT = [name for name in NAMES if name != "resenc_preset"]  # 14 million weights of a resenc_unet
SEGMENTATION = [name for name in BUILT if EVERY[name].is_segmentation]
NORMS = [
    (name, norm)
    for name in NAMES
    for norm in get_args(type(EVERY[name].config).model_fields["norm"].annotation)
    if norm != "none"
]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threads(1):
        yield


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(small: Small, *, in_channels: int = 1, num_classes: int = 2, seed: int = 0) -> nn.Module:
    return build_network(
        small.config,
        in_channels=in_channels,
        num_classes=num_classes,
        patch=small.patch,
        seed=seed,
    )


def shape(
    name: str, *, in_channels: int = 1, num_classes: int = 2, norm: str | None = None
) -> nn.Module:
    small = EVERY[name]
    config = small.config if norm is None else small.config.model_copy(update={"norm": norm})
    return network_shape(
        config, in_channels=in_channels, num_classes=num_classes, patch=small.patch
    )


def owner(name: str) -> str:
    return name.rpartition(".")[0]


def owners(specs: tuple[TensorSpec, ...], kind: TensorKind, *, net: nn.Module) -> set[str]:
    """Modules that hold tensors of a kind, slopes of activations aside."""
    modules = dict(net.named_modules())
    held = {owner(spec.name) for spec in specs if spec.kind is kind}
    return {name for name in held if not isinstance(modules[name], nn.PReLU)}


def changed(one: tuple[TensorSpec, ...], other: tuple[TensorSpec, ...]) -> set[str]:
    """Modules, norm layers aside, that hold a tensor of another shape."""
    assert [spec.name for spec in one] == [spec.name for spec in other]
    return {
        owner(a.name)
        for a, b in zip(one, other, strict=True)
        if a.shape != b.shape and a.kind is not TensorKind.NORM
    }


def test_every_kind_of_the_schema_is_here() -> None:
    (union, *_) = get_args(Network)
    kinds = {get_args(member.model_fields["kind"].annotation)[0] for member in get_args(union)}
    assert {small.config.kind for small in EVERY.values()} == kinds


# --- parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_stem_is_what_depends_on_the_channels(name: str) -> None:
    net = shape(name, in_channels=1)
    specs = describe(net)
    depends = changed(specs, describe(shape(name, in_channels=2)))
    assert depends
    assert owners(specs, TensorKind.STEM, net=net) == depends


@pytest.mark.parametrize("name", NAMES)
def test_head_is_what_depends_on_the_classes(name: str) -> None:
    net = shape(name, num_classes=2)
    specs = describe(net)
    depends = changed(specs, describe(shape(name, num_classes=5)))
    assert depends
    assert owners(specs, TensorKind.HEAD, net=net) == depends


@pytest.mark.parametrize("name", NAMES)
def test_every_part_is_there(name: str) -> None:
    kinds = {spec.kind for spec in describe(shape(name))}
    assert {TensorKind.STEM, TensorKind.ENCODER, TensorKind.HEAD} <= kinds
    has_decoder = EVERY[name].is_segmentation and name != "highresnet"
    assert (TensorKind.DECODER in kinds) == has_decoder


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_held_once(name: str) -> None:
    net = shape(name)
    parameters = list(net.named_parameters(remove_duplicate=False))
    assert len({id(parameter) for _, parameter in parameters}) == len(parameters)


# --- norms ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "norm"), NORMS)
def test_all_norms_are_found_and_are_those_asked_for(name: str, norm: str) -> None:
    net = shape(name, norm=norm)
    kinds = {spec.name: spec.kind for spec in describe(net)}
    wanted = {"instance": InstanceNorm, "group": nn.GroupNorm, "batch": nn.BatchNorm3d}[norm]
    found: set[type[nn.Module]] = set()
    for path, module in net.named_modules():
        for tensor, _ in module.named_parameters(prefix=path, recurse=False):
            # By name here, by type in the package: neither may know a norm the other does not.
            is_norm = "norm" in type(module).__name__.lower()
            assert (kinds[tensor] is TensorKind.NORM) == is_norm, tensor
            found |= {type(module)} if is_norm else set()
    assert wanted in found
    assert found <= {wanted, nn.LayerNorm}
    assert (nn.LayerNorm in found) == ("unetr" in name or name == "pct_net")


def test_group_norm_of_segresnet_keeps_its_eight_groups() -> None:
    groups = {m.num_groups for m in shape("segresnet").modules() if isinstance(m, nn.GroupNorm)}
    assert groups == {8}


@pytest.mark.parametrize("name", [n for n in NAMES if isinstance(EVERY[n].config, MonaiNetwork)])
def test_monais_convolutions_are_ours(name: str) -> None:
    convolutions = [m for m in shape(name).modules() if isinstance(m, nn.Conv3d)]
    assert convolutions
    assert {type(module) for module in convolutions} == {Conv3d}


# --- weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT)
def test_weights_come_from_the_seed_alone(name: str) -> None:
    before = torch.get_rng_state()
    first = to_arrays(build(EVERY[name], seed=3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)  # moves the global state
    moved = torch.get_rng_state()
    second = to_arrays(build(EVERY[name], seed=3))
    assert torch.equal(torch.get_rng_state(), moved)
    for key, array in first.items():
        assert array.tobytes() == second[key].tobytes(), key
    other = to_arrays(build(EVERY[name], seed=4))
    assert any(array.tobytes() != other[key].tobytes() for key, array in first.items())


@pytest.mark.parametrize("name", BUILT)
def test_shape_says_what_is_built(name: str) -> None:
    before = torch.get_rng_state()
    described = describe(shape(name))
    assert torch.equal(torch.get_rng_state(), before)
    assert described == describe(build(EVERY[name]))


# --- outputs and gradients --------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT)
def test_outputs_follow_the_contract(name: str) -> None:
    small = EVERY[name]
    net = build(small, in_channels=2, num_classes=3)
    x = noise(2, 2, *small.patch)
    grid = small.patch if small.is_segmentation else ()
    for mode in (True, False):
        net.train(mode)
        first, *coarser = net(x)
        assert first.shape == (2, 3, *grid)
        sides = [tuple(y.shape[2:]) for y in (first, *coarser)]
        assert sides == sorted(sides, reverse=True)
        assert all(y.shape[:2] == (2, 3) for y in coarser)
    assert not coarser


@pytest.mark.parametrize("name", BUILT)
def test_training_mode_draws_nothing(name: str) -> None:
    """A step depends on weights and batch alone, whatever was drawn before: dropout too."""
    small = EVERY[name]
    net = build(small).train()
    x = noise(2, 1, *small.patch)
    assert torch.equal(net(x)[0], net(x)[0])


@pytest.mark.parametrize("name", BUILT)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    small = EVERY[name]
    net = build(small, in_channels=2, num_classes=3).train()
    sum(y.square().sum() for y in net(noise(2, 2, *small.patch))).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        # A convolution's bias before a norm layer is taken out again: rounding only.
        if not key.endswith(("conv.bias", "stem.bias")):
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", BUILT)
def test_layout_changes_speed_only(name: str) -> None:
    small = EVERY[name]
    net = build(small).eval()
    x = noise(2, 1, *small.patch)
    plain = net(x)[0].detach()
    net.to(memory_format=torch.channels_last_3d)
    other = net(x.to(memory_format=torch.channels_last_3d))[0].detach()
    torch.testing.assert_close(other, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.full
@pytest.mark.parametrize("name", SEGMENTATION)
def test_a_network_is_compiled_whole_or_refused_in_a_study(name: str) -> None:
    """Only what `torch.compile` follows is at stake, so no C++ compiler is needed."""
    small = EVERY[name]
    net = build(small).train()
    x = noise(2, 1, *small.patch)
    torch.compiler.reset()
    run = torch.compile(net, fullgraph=True, dynamic=False, backend="aot_eager")
    if isinstance(small.config, NOT_COMPILED):
        with pytest.raises(Unsupported):
            run(x)
        return
    for found, expected in zip(run(x), net(x), strict=True):
        torch.testing.assert_close(found, expected)
        found.square().mean().backward(retain_graph=True)
    torch.compiler.reset()


@pytest.mark.parametrize("name", SEGMENTATION)
def test_one_step_of_the_real_loop(name: str) -> None:
    small = EVERY[name]
    net = build(small, num_classes=3)
    before = to_arrays(net)
    losses: list[float] = []
    train(
        net,
        objective=build_objective(SegmentationTask(kind="segmentation"), num_classes=3),
        batches=Noise(small.patch),
        config=Training(optimiser=AdamW(kind="adamw"), num_threads=1),
        window=Window(first_step=0, num_steps=1, total_steps=1),
        device=CPU,
        watch=Watch(on_step=lambda step, loss: losses.append(loss)),
    )
    assert 0 < losses[0] < 20
    after = to_arrays(net)
    learned = [spec.name for spec in describe(net) if spec.kind is not TensorKind.BUFFER]
    assert all(before[key].tobytes() != after[key].tobytes() for key in learned)


class Noise:
    """A batch of noise with labels of every class."""

    def __init__(self, patch: tuple[int, int, int]) -> None:
        self._patch = patch

    def batch(self, step: int) -> Batch:
        generator = torch.Generator().manual_seed(step)
        label = torch.randint(0, 3, (2, *self._patch), generator=generator)
        return Batch(image=noise(2, 1, *self._patch), label=label)


# --- grids ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT)
def test_grid_against_the_rule_is_refused(name: str) -> None:
    small = EVERY[name]
    rule = patch_rule(small.config)
    i, j, k = small.patch
    if name in ("highresnet", "resnet3d", "resnet3d_50"):
        assert rule.multiple_of == (1, 1, 1)
        build(small).eval()(noise(1, 1, i + 1, j, k + 3))
        return
    with pytest.raises(NetworkConfigError, match="patch of"):
        build(small)(noise(1, 1, i - 1, j, k))


def test_unetr_takes_its_own_patch_only() -> None:
    net = build(EVERY["unetr"])
    with pytest.raises(NetworkConfigError, match=r"for \(32, 16, 16\)"):
        net(noise(1, 1, 16, 32, 16))


@pytest.mark.parametrize("patch", [None, (32, 24, 32)])
def test_unetr_needs_a_patch_of_whole_tokens(patch: tuple[int, int, int] | None) -> None:
    with pytest.raises(NetworkConfigError, match="multiples of 16"):
        build_network(EVERY["unetr"].config, in_channels=1, num_classes=2, patch=patch)


def test_vnet_takes_channels_that_divide_its_width() -> None:
    with pytest.raises(NetworkConfigError, match="3 channels do not divide"):
        build_network(EVERY["vnet"].config, in_channels=3, num_classes=2)
