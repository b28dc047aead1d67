"""Training a part: the rest stands still, running statistics included."""

import torch
from torch import nn

from fedvol.training import only_trained
from fedvol.training.freezing import settle_frozen_norms


def network() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Conv3d(2, 1, 1))


def test_only_the_named_are_trained_and_all_are_again_after() -> None:
    net = network()
    net[0].bias.requires_grad_(False)
    with only_trained(net, {"2.weight", "2.bias", "1.running_mean"}):
        assert [name for name, p in net.named_parameters() if p.requires_grad] == [
            "2.weight",
            "2.bias",
        ]
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {"0.weight", "1.weight", "1.bias", "2.weight", "2.bias"}


def test_frozen_norms_keep_their_statistics() -> None:
    net = network()
    before = net[1].running_mean.clone()
    with only_trained(net, {"2.weight"}):
        net.train()
        settle_frozen_norms(net)
        net(torch.randn(2, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0)) + 3)
    torch.testing.assert_close(net[1].running_mean, before)
    with only_trained(net, {"1.weight"}):
        net.train()
        settle_frozen_norms(net)
        net(torch.randn(2, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0)) + 3)
    assert not torch.equal(net[1].running_mean, before)
