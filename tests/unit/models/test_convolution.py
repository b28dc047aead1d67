"""`Conv3d`: the base class's mathematics, whichever kernel does it."""

import pytest
import torch
from torch import nn

from fedvol.models.convolution import Conv3d


def _pair(**settings: object) -> tuple[Conv3d, nn.Conv3d]:
    ours, base = Conv3d(4, 6, 3, **settings), nn.Conv3d(4, 6, 3, **settings)  # pyright: ignore[reportArgumentType]
    base.load_state_dict(ours.state_dict())
    return ours, base


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize(
    "settings", [{"padding": 1}, {"padding": (1, 0, 1), "stride": (2, 1, 2)}, {"bias": False}]
)
def test_output_and_gradients_are_the_base_classs(
    batch: int, layout: torch.memory_format, settings: dict[str, object]
) -> None:
    ours, base = _pair(**settings)
    x = torch.randn(batch, 4, 6, 7, 8).contiguous(memory_format=layout)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()

    out, expected = ours(a), base(b)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(expected)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()

    torch.testing.assert_close(a.grad, b.grad)
    for one, other in zip(ours.parameters(), base.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_batch_of_one_equals_its_place_in_a_larger_batch() -> None:
    ours, _ = _pair(padding=1)
    x = torch.randn(2, 4, 8, 8, 8)

    torch.testing.assert_close(ours(x[:1]), ours(x)[:1])


def test_batch_of_one_goes_to_onednn_in_float32_only() -> None:
    ours, _ = _pair(padding=1)
    x = torch.randn(1, 4, 8, 8, 8)

    names = {event.name for event in _profiled(ours, x)}
    assert "aten::mkldnn_convolution" in names
    assert "aten::slow_conv3d_forward" not in names
    torch.testing.assert_close(ours.double()(x.double()).float(), ours.float()(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16


def test_same_names_as_the_base_class() -> None:
    ours, base = _pair()

    assert list(ours.state_dict()) == list(base.state_dict())


def _profiled(net: nn.Module, x: torch.Tensor) -> list[torch.autograd.profiler_util.FunctionEvent]:
    with (
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
        torch.inference_mode(),
    ):
        net(x)
    return list(profile.events())
