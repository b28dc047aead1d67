"""Attention inside windows of a volume, and inside windows shifted by half.

Reference: Liu et al. (2021), arXiv:2103.14030, with windows of three axes.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from fedvol.models.seeded_dropout import Draw, SeededDropout
from fedvol.types import Triple

WINDOW = 6
"""Side of a window, in positions of the grid."""

_MLP_RATIO = 4
_BIAS_DEVIATION = 0.02

Tokens = Float[Tensor, "batch i j k channel"]
Windows = Float[Tensor, "window token channel"]


class WindowPair(nn.Module):
    """Two transformer blocks: attention inside windows, then inside windows shifted by half.

    The grid is padded with zeros to whole windows. An axis that one window covers is not shifted.
    A layer norm ends the pair.

    Args:
        channels: Channels in and out.
        num_heads: Attention heads; divides the channels.
        dropout: Share dropped of the input, of attention, of projections and of hidden values.
        drop_path: Share of samples that pass a block's branch by.
        layers: Numbers for the layers that drop.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        dropout: float,
        drop_path: float,
        layers: Iterator[int],
    ) -> None:
        super().__init__()
        self.dropout = SeededDropout(dropout, layer=next(layers))
        self.blocks = nn.ModuleList(
            WindowBlock(
                channels, num_heads=num_heads, dropout=dropout, drop_path=drop_path, layers=layers
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tokens, draw: Draw | None) -> Tokens:
        """Both blocks; `draw` is None where nothing is dropped."""
        i, j, k = (0 if side <= WINDOW else WINDOW // 2 for side in x.shape[1:4])
        x = self.dropout(x, draw)
        x = self.blocks[0](x, shift=(0, 0, 0), draw=draw)
        x = self.blocks[1](x, shift=(i, j, k), draw=draw)
        return self.norm(x)


class WindowBlock(nn.Module):
    """Attention inside windows, then a perceptron; a layer norm before and a skip around each.

    Args:
        channels: Channels in and out.
        num_heads: Attention heads.
        dropout: Share dropped of attention, of projections and of hidden values.
        drop_path: Share of samples that pass a branch by.
        layers: Numbers for the layers that drop.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        dropout: float,
        drop_path: float,
        layers: Iterator[int],
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(
            channels, num_heads=num_heads, dropout=dropout, layers=layers
        )
        self.drop_path1 = SeededDropout(drop_path, layer=next(layers), whole_samples=True)
        self.norm2 = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, _MLP_RATIO * channels)
        self.dropout1 = SeededDropout(dropout, layer=next(layers))
        self.narrow = nn.Linear(_MLP_RATIO * channels, channels)
        self.dropout2 = SeededDropout(dropout, layer=next(layers))
        self.drop_path2 = SeededDropout(drop_path, layer=next(layers), whole_samples=True)

    def forward(self, x: Tokens, *, shift: Triple, draw: Draw | None) -> Tokens:
        """One block; the windows begin `shift` positions into the grid."""
        x = x + self.drop_path1(self.attention(self.norm1(x), shift=shift, draw=draw), draw)
        hidden = self.dropout1(functional.gelu(self.widen(self.norm2(x))), draw)
        return x + self.drop_path2(self.dropout2(self.narrow(hidden), draw), draw)


class WindowAttention(nn.Module):
    """Every position attends to those of its window, with a bias by where they lie to each other.

    Args:
        channels: Channels in and out.
        num_heads: Attention heads.
        dropout: Share dropped of attention and of what comes out.
        layers: Numbers for the layers that drop.
    """

    def __init__(
        self, channels: int, *, num_heads: int, dropout: float, layers: Iterator[int]
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.position_bias = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 3, num_heads))
        nn.init.trunc_normal_(self.position_bias, std=_BIAS_DEVIATION)
        self.attention_dropout = SeededDropout(dropout, layer=next(layers))
        self.project = nn.Linear(channels, channels)
        self.dropout = SeededDropout(dropout, layer=next(layers))
        self.register_buffer("position_index", relative_positions(WINDOW), persistent=False)

    def forward(self, x: Tokens, *, shift: Triple, draw: Draw | None) -> Tokens:
        """Attend inside windows that begin `shift` positions into the grid."""
        i, j, k = x.shape[1:4]
        x = functional.pad(x, (0, 0, 0, -k % WINDOW, 0, -j % WINDOW, 0, -i % WINDOW))
        x = torch.roll(x, [-step for step in shift], dims=(1, 2, 3))
        grid: Triple = (x.shape[1], x.shape[2], x.shape[3])
        windows = self._attend(split_windows(x), masked=_seams(grid, shift, x=x), draw=draw)
        x = torch.roll(merge_windows(windows, grid=grid), shift, dims=(1, 2, 3))
        return self.dropout(x[:, :i, :j, :k], draw)

    def _attend(self, windows: Windows, *, masked: Tensor | None, draw: Draw | None) -> Windows:
        num_windows, num_tokens, channels = windows.shape
        query, key, value = (
            self.query_key_value(windows)
            .view(num_windows, num_tokens, 3, self.num_heads, channels // self.num_heads)
            .permute(2, 0, 3, 1, 4)
        )
        scale = (channels // self.num_heads) ** -0.5
        logits = (scale * query) @ key.transpose(-2, -1) + self._bias()
        if masked is not None:
            by_volume = logits.view(-1, len(masked), self.num_heads, num_tokens, num_tokens)
            logits = by_volume.masked_fill(masked[:, None], -torch.inf).view_as(logits)
        attention = self.attention_dropout(logits.softmax(dim=-1), draw)
        return self.project((attention @ value).transpose(1, 2).reshape(windows.shape))

    def _bias(self) -> Float[Tensor, "head token token"]:
        index = self.get_buffer("position_index")
        return self.position_bias[index.view(-1)].view(*index.shape, -1).permute(2, 0, 1)


def relative_positions(window: int) -> Int64[Tensor, "token token"]:
    """For each two positions of a cubic window, the number of the step from one to the other.

    Steps run from 1 - window to window - 1 along each axis; each of the (2 window - 1)^3 has a
    number of its own, the last axis counted first.
    """
    side = torch.arange(window)
    places = torch.cartesian_prod(side, side, side)
    steps = places[:, None] - places[None, :] + window - 1
    num_steps = 2 * window - 1
    return (steps[..., 0] * num_steps + steps[..., 1]) * num_steps + steps[..., 2]


def split_windows(x: Tokens) -> Windows:
    """The windows of each volume in turn, their positions in a row; sides are multiples."""
    batch, i, j, k, channels = x.shape
    x = x.view(batch, i // WINDOW, WINDOW, j // WINDOW, WINDOW, k // WINDOW, WINDOW, channels)
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, WINDOW**3, channels)


def merge_windows(windows: Windows, *, grid: Triple) -> Tokens:
    """What `split_windows` divided, together again."""
    i, j, k = (side // WINDOW for side in grid)
    x = windows.view(-1, i, j, k, WINDOW, WINDOW, WINDOW, windows.shape[-1])
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, *grid, windows.shape[-1])


def _seams(grid: Triple, shift: Triple, *, x: Tensor) -> Tensor | None:
    """Which pairs of a window were brought together from opposite ends; None without a shift.

    The shift moves the first positions of an axis behind the last: they share the last window, and
    may not attend to each other.
    """
    if not any(shift):
        return None
    ends = [
        torch.arange(side, device=x.device) >= side - step
        for side, step in zip(grid, shift, strict=True)
    ]
    end = 4 * ends[0].long()[:, None, None] + 2 * ends[1].long()[:, None] + ends[2].long()
    windows = split_windows(end[None, ..., None])[..., 0]
    return windows[:, :, None] != windows[:, None, :]
