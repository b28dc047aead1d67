"""Small volumes with something to learn in them, and a few steps of learning."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedvol.data.batch import UnlabelledBatch
from fedvol.ssl.task import Pretext

_ORGANS = (
    ((0.4, 0.0, -0.3), 0.30, 2.0),
    ((-0.3, 0.3, 0.3), 0.35, -1.0),
    ((0.0, -0.4, 0.4), 0.20, 1.0),
)
"""Centre and radius in halves of the volume's side, and brightness beyond that of the body."""


def structured_volumes(num: int, side: int, seed: int) -> Tensor:
    """Bodies in air with organs always at about the same place, z-scored.

    Returns:
        Intensities, (num, 1, side, side, side).
    """
    generator = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(-1, 1, side)
    at = torch.stack(torch.meshgrid(ramp, ramp, ramp, indexing="ij"))

    def ball(centre: Tensor, radius: Tensor) -> Tensor:
        distance = (at - centre.view(3, 1, 1, 1)).square().sum(0).sqrt()
        return torch.sigmoid((radius - distance) * side / 2)

    def jitter(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) - 0.5) * 0.2

    volumes = []
    for _ in range(num):
        body = ball(jitter(3), 0.85 + jitter())
        coarse = torch.randn((1, 1, 4, 4, 4), generator=generator) * 0.3
        texture = functional.interpolate(coarse, size=(side,) * 3, mode="trilinear")[0, 0]
        inside = 2 + texture
        for centre, radius, brightness in _ORGANS:
            inside = inside + brightness * ball(torch.tensor(centre) + jitter(3), radius + jitter())
        volumes.append(body * inside)
    volume = torch.stack(volumes).unsqueeze(1)
    voxels = (1, 2, 3, 4)
    return (volume - volume.mean(voxels, keepdim=True)) / volume.std(voxels, keepdim=True)


def learn(
    task: Pretext, net: nn.Module, *, images: Tensor, batch_size: int, steps: int, rate: float
) -> None:
    """Train by Adam on batches drawn from some images, in order."""
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    net.train()
    for step in range(steps):
        chosen = torch.arange(step * batch_size, (step + 1) * batch_size) % len(images)
        optimiser.zero_grad()
        task.loss(net, UnlabelledBatch(image=images[chosen], seed=step)).backward()
        optimiser.step()
