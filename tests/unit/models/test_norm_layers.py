"""Norm layers: ours against the library's."""

import pytest
import torch
from torch import nn

from fedvol.models.norms import InstanceNorm, build_norm


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_instance_norm_is_the_librarys(batch: int, layout: torch.memory_format) -> None:
    ours, theirs = InstanceNorm(5), nn.InstanceNorm3d(5, affine=True)
    weight, bias = noise(5), noise(5)
    gradients = []
    x = noise(batch, 5, 4, 3, 6) * 3 + 2
    outside = noise(*x.shape, seed=1)
    outputs = []
    for norm in (ours, theirs):
        with torch.no_grad():
            norm.weight.copy_(weight)
            norm.bias.copy_(bias)
        image = x.to(memory_format=layout).detach().requires_grad_()
        y = norm(image)
        y.backward(outside)
        outputs.append(y)
        gradients.append((image.grad, norm.weight.grad, norm.bias.grad))
    torch.testing.assert_close(outputs[0], outputs[1])
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-4)


def test_instance_norm_keeps_layout_and_mode_does_not_matter() -> None:
    norm = build_norm("instance", num_channels=4)
    x = noise(2, 4, 3, 3, 3).to(memory_format=torch.channels_last_3d)
    trained = norm.train()(x)
    assert trained.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(norm.eval()(x), trained)
    assert list(norm.state_dict()) == ["weight", "bias"]


def test_instance_norm_of_one_voxel_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1"):
        build_norm("instance", num_channels=4)(noise(2, 4, 1, 1, 1))


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (16, 1), (24, 2), (64, 4), (17, 17)])
def test_group_norm_has_groups_of_at_most_sixteen(channels: int, groups: int) -> None:
    norm = build_norm("group", num_channels=channels)
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups
