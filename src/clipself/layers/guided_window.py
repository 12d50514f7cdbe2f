"""Attention inside shifted windows whose queries and keys also see a guiding map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.layers.guided_projections import GuidedProjections
from clipself.ops.axes import unfold_axis


class WindowAttention(GuidedProjections):
    """Attention of each window's tokens.

    Source: CAT-Seg (arXiv:2303.11797), Sec. 3.3, with the published parameter names; no relative positions.

    Args:
        channels: Width of the tokens.
        guidance_channels: Width of the guidance; 0 for none.
        heads: Attention heads.
    """

    def __init__(self, *, channels: int, guidance_channels: int, heads: int) -> None:
        super().__init__(channels=channels, guidance_channels=guidance_channels, heads=heads)
        self.proj = nn.Linear(channels, channels)

    def forward(self, windows_MNC: Tensor, guidance_BWNG: Tensor, bias_MNN: Tensor | None) -> Tensor:
        """Mixes the tokens of each window.

        Args:
            windows_MNC: Tokens of M windows: of B images, of T maps of each, of W windows of each map.
            guidance_BWNG: Guidance of each image's windows.
            bias_MNN: Added to the attention logits, one for each window.
        """
        query, key, value = (part.transpose(1, 2) for part in self.project(windows_MNC, guidance_BWNG))
        bias = None if bias_MNN is None else bias_MNN[:, None].to(query)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Two linear layers with GELU between them, by timm's names.

    Args:
        channels: Width outside.
        hidden: Width inside.
    """

    def __init__(self, *, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps the last axis."""
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return out


class GuidedWindowBlock(nn.Module):
    """One Swin block (arXiv:2103.14030) over a map, with guidance in its attention.

    Args:
        channels: Width of the map.
        guidance_channels: Width of the guidance.
        heads: Attention heads.
        window: Side of a window, in cells.
        shift: How far the windows are moved right and down; 0 for the first block of a pair.
        mlp_ratio: Hidden width of the MLP over the width of the map.
    """

    def __init__(
        self, *, channels: int, guidance_channels: int, heads: int, window: int, shift: int, mlp_ratio: int = 4
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels=channels, guidance_channels=guidance_channels, heads=heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels=channels, hidden=mlp_ratio * channels)

    def forward(self, maps_MYXC: Tensor, guidance_BYXG: Tensor) -> Tensor:
        """Runs the block on M maps, channels last.

        Args:
            maps_MYXC: The maps: M / B of the first image, then those of the next.
            guidance_BYXG: The guiding map of each image.

        Raises:
            ValueError: The windows do not tile the map.
        """
        rows, cols = maps_MYXC.shape[1:3]
        window = min(self.window, rows, cols)
        shift = self.shift if window < min(rows, cols) else 0
        if rows % window or cols % window:
            raise ValueError(
                f"windows of {window} do not tile a map of {rows} x {cols} cells; choose a window that divides both"
            )
        normed, guidance = self.norm1(maps_MYXC), guidance_BYXG
        if shift:
            normed, guidance = (part.roll((-shift, -shift), dims=(1, 2)) for part in (normed, guidance))
        bias = shift_bias((rows, cols), window=window, shift=shift, device=maps_MYXC.device) if shift else None
        if bias is not None:
            bias = bias.repeat(maps_MYXC.shape[0], 1, 1)
        guiding = unfold_axis(cut_windows(guidance, window), 0, (guidance.shape[0], -1))
        mixed = self.attn(cut_windows(normed, window), guiding, bias)
        mixed = join_windows(mixed, window, (rows, cols))
        if shift:
            mixed = mixed.roll((shift, shift), dims=(1, 2))
        maps_MYXC = maps_MYXC + mixed
        out: Tensor = maps_MYXC + self.mlp(self.norm2(maps_MYXC))
        return out


def cut_windows(maps_MYXC: Tensor, window: int) -> Tensor:
    """Maps -> windows (M * rows * cols, window * window, C), row by row."""
    count, rows, cols, channels = maps_MYXC.shape
    tiled = maps_MYXC.reshape(count, rows // window, window, cols // window, window, channels)
    return tiled.transpose(2, 3).reshape(-1, window * window, channels)


def join_windows(windows_NwC: Tensor, window: int, size: tuple[int, int]) -> Tensor:
    """The inverse of `cut_windows`, for maps of this many rows and columns."""
    rows, cols = size
    tiled = windows_NwC.reshape(-1, rows // window, cols // window, window, window, windows_NwC.shape[-1])
    return tiled.transpose(2, 3).reshape(-1, rows, cols, windows_NwC.shape[-1])


def shift_bias(size: tuple[int, int], *, window: int, shift: int, device: torch.device) -> Tensor:
    """-100 between cells that only the rolling made neighbours, else 0: (windows, cells, cells)."""
    rows, cols = size
    regions = torch.zeros(1, rows, cols, 1, device=device)
    edges = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (down, across) in enumerate((down, across) for down in edges for across in edges):
        regions[:, down, across] = number
    cells = cut_windows(regions, window)[..., 0]
    return (cells[:, None] != cells[:, :, None]).float() * -100.0
