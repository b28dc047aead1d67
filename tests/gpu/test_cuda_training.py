"""Training steps on a GPU are the CPU's, to the precision that was asked for.

How far a GPU may be off is measured here, on the CPU, by the same steps with the same rounding.
"""

from functools import cache

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from fedvol.config.learning import AdamW, SegmentationTask, Sgd, Training
from fedvol.config.network import UNet
from fedvol.data.batch import Batch
from fedvol.errors import CompileError
from fedvol.models import build_network, to_arrays
from fedvol.tasks import build_objective
from fedvol.training import Objective, Watch, Window, require_compiler, threads, train
from fedvol.types import State

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

CPU = torch.device("cpu")
GPU = torch.device("cuda")
STEPS = 4

_MARGIN = 4.0
"""Two sets of rounding errors of one size are off each other by some 1.4 times as much as each, and
the worst of a few by some twice the usual one."""


class Balls:
    """Two noisy balls; other noise at each step."""

    def batch(self, step: int) -> Batch:
        axes = torch.arange(16.0) - 7.5
        distance = torch.cartesian_prod(axes, axes, axes).norm(dim=1).view(16, 16, 16)
        label = torch.stack([(distance < 4).long() + (distance < 6), (distance < 5).long()])
        noise = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(step))
        return Batch(image=(label + 0.3 * noise)[:, None], label=label)


def network() -> torch.nn.Module:
    return build_network(UNet(kind="unet", features=(4, 8)), in_channels=1, num_classes=3, seed=7)


def trained(
    device: torch.device, *, objective: Objective | None = None, **changes: object
) -> tuple[np.ndarray, State]:
    """Losses of a few steps, and the weights after them."""
    # Plain gradient steps: a change of weights is as exact as the gradients. Adam's first steps
    # have the gradients' signs, and the sign of a gradient near 0 is anybody's guess.
    sgd = Sgd(kind="sgd", momentum=0.0, learning_rate=0.1)
    net = network()
    losses: list[float] = []
    with threads(1):
        train(
            net,
            objective=objective
            or build_objective(SegmentationTask(kind="segmentation"), num_classes=3),
            batches=Balls(),
            config=Training(optimiser=sgd, num_threads=1).model_copy(update=changes),
            window=Window(first_step=0, num_steps=STEPS, total_steps=STEPS),
            device=device,
            watch=Watch(on_step=lambda step, loss: losses.append(loss)),
        )
    return np.array(losses), to_arrays(net)


@cache
def reference() -> tuple[np.ndarray, State]:
    """The same on the CPU in float32."""
    return trained(CPU, channels_last=False)


def off(losses: np.ndarray, weights: State) -> tuple[float, float]:
    """How far a training is off the reference: losses, and what the steps changed in the weights.

    Both relative; a loss by the worst step, the change by its length.
    """
    expected, theirs = reference()
    start = to_arrays(network())
    distance = sum(float(np.square(weights[name] - theirs[name]).sum()) for name in start)
    length = sum(float(np.square(theirs[name] - start[name]).sum()) for name in start)
    return float(np.abs(losses / expected - 1).max()), (distance / length) ** 0.5


@cache
def off_in(precision: str) -> tuple[float, float]:
    """The yardstick: how far the CPU itself is off where it rounds as a GPU does.

    In `bfloat16` what is multiplied has 8 significant bits. A GPU's convolutions take `float32` as
    TF32, of 11 bits, which is imitated here. `exact` float32 is off by the order of sums alone:
    the kernels for another memory layout have another.
    """
    match precision:
        case "bfloat16":
            losses, weights = trained(CPU, precision="bfloat16")
        case "float32":
            with RoundedConvolutions():
                losses, weights = trained(CPU)
        case _:
            losses, weights = trained(CPU)
    return off(losses, weights)


class RoundedConvolutions(TorchFunctionMode):
    """Convolutions of what has 11 significant bits, forward and backward, summed in float32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func not in (torch.conv3d, torch.conv_transpose3d):
            return func(*args, **(kwargs or {}))
        x, weight, *rest = args
        result = func(_Operand.apply(x), _Operand.apply(weight), *rest, **(kwargs or {}))
        return _Gradient.apply(result)


def tf32(x: torch.Tensor) -> torch.Tensor:
    """Rounded to 11 significant bits; float32 has 24."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 2**12) & -(2**13)).view(torch.float32)


class _Operand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return tf32(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return tf32(gradient)


def require_compile() -> None:
    try:
        require_compiler(GPU)
    except CompileError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("channels_last", [True, False], ids=["channels_last", "contiguous"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
def test_steps_are_those_of_the_cpu(precision: str, channels_last: bool, is_compiled: bool) -> None:
    if is_compiled:
        require_compile()
    losses, weights = trained(
        GPU, precision=precision, channels_last=channels_last, compile=is_compiled
    )
    assert {array.dtype.name for array in weights.values()} == {"float32"}
    for found, yardstick in zip(off(losses, weights), off_in(precision), strict=True):
        assert found <= _MARGIN * yardstick


def test_exact_float32_is_off_by_the_order_of_sums_alone() -> None:
    """With TF32 off a wrong layer or a lost term has nowhere to hide."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        losses, weights = trained(GPU)
    # A GPU sums in other orders than any CPU. Whichever it takes, it is nearer to the CPU's other
    # order than to TF32, by powers of ten: the middle is their geometric mean.
    for found, exact, rounded in zip(
        off(losses, weights), off_in("exact"), off_in("float32"), strict=True
    ):
        assert found < (max(exact, 2.0**-24) * rounded) ** 0.5


def test_yardsticks_tell_precisions_apart() -> None:
    """Else a training in the wrong one would pass."""
    for exact, rounded, half in zip(*map(off_in, ("exact", "float32", "bfloat16")), strict=True):
        assert 100 * exact < rounded < half


@pytest.mark.parametrize("is_compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.filterwarnings("ignore::UserWarning:torch.*")
def test_bfloat16_is_what_the_network_computes_in(is_compiled: bool) -> None:
    if is_compiled:
        require_compile()
    dtypes: set[torch.dtype] = set()

    class Spy:
        def loss(self, net: torch.nn.Module, batch: Batch) -> torch.Tensor:
            outputs = net(batch.image)
            dtypes.update(output.dtype for output in outputs)
            return torch.stack([output.float().square().mean() for output in outputs]).sum()

    trained(GPU, objective=Spy(), precision="bfloat16", compile=is_compiled)
    assert dtypes == {torch.bfloat16}


def test_network_and_moments_return_as_float32_arrays() -> None:
    net = build_network(UNet(kind="unet", features=(4, 8)), in_channels=1, num_classes=3)
    seen: list[int] = []
    result = train(
        net,
        objective=build_objective(SegmentationTask(kind="segmentation"), num_classes=3),
        batches=Balls(),
        config=Training(optimiser=AdamW(kind="adamw"), precision="bfloat16", num_threads=1),
        window=Window(first_step=0, num_steps=STEPS, total_steps=STEPS),
        device=GPU,
        watch=Watch(on_step=lambda step, loss: seen.append(step)),
    )
    assert seen == [1, 2, 3, 4]  # losses are read several at once, and all of them
    assert {array.dtype.name for array in to_arrays(net).values()} == {"float32"}
    assert result.optimiser_state
    assert {array.dtype.name for array in result.optimiser_state.values()} == {"float32"}
