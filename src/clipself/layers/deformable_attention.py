"""Multi-scale deformable attention in plain PyTorch: each query looks at a few places on every level."""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.ops.sampling import read_between_cells

Grid = tuple[int, int]


class DeformableAttention(nn.Module):
    """Attention over a handful of sampled places instead of all of them.

    Source: Deformable DETR (arXiv:2010.04159), Sec. 4.1; the published parameter names. No compiled operator is needed:
    the samples are read by `grid_sample`, and in an exported graph by look-ups.

    Args:
        channels: Width of queries and values.
        heads: Attention heads.
        levels: Maps that are looked at.
        points: Places on each map, for each head.

    Raises:
        ValueError: The heads do not divide the width.
    """

    def __init__(self, *, channels: int, heads: int, levels: int, points: int = 4) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{heads} heads do not divide {channels} channels")
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self._start_as_a_star()

    @torch.no_grad()
    def _start_as_a_star(self) -> None:
        """Each head begins by looking one way, point i at distance i; attention is even."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        ways = torch.stack([angles.cos(), angles.sin()], dim=-1)
        ways = ways / ways.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1)
        star = ways[:, None, None] * steps[None, None, :, None]
        self.sampling_offsets.bias.copy_(star.expand(self.heads, self.levels, self.points, 2).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        queries_BSC: Tensor,
        references: Tensor,
        values_BSC: Tensor,
        grids: Sequence[Grid],
        *,
        padding_BS: Tensor | None = None,
    ) -> Tensor:
        """Looks around the reference of each query.

        Args:
            queries_BSC: Queries; what they look for is told by where they look.
            references: Where each query stands: centres (S, 2), `xy` in [0, 1] of every level; or (B, S, levels, 2) for
                pictures that fill different parts of the levels; or boxes (B, S, levels, 4), `cxcywh`, whose sides the
                steps are measured in.
            values_BSC: The levels, flattened row by row, one after another.
            grids: Rows and columns of each level.
            padding_BS: True where a value lies outside its picture: it counts as zero.

        Returns:
            Mixed values (B, S, C).
        """
        batch, count, channels = queries_BSC.shape
        shape = (batch, count, self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(queries_BSC).view(*shape, 2)
        weights = self.attention_weights(queries_BSC).view(*shape[:3], -1).softmax(-1)
        values = self.value_proj(values_BSC)
        if padding_BS is not None:
            values = values.masked_fill(padding_BS[..., None], 0.0)
        values = values.view(batch, -1, self.heads, channels // self.heads)
        places = self._places(references, offsets, grids)
        mixed: Tensor = self.output_proj(sample_levels(values, places, weights, grids))
        return mixed

    def _places(self, references: Tensor, offsets: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Steps are cells of a level around a centre, and shares of half the sides around a box."""
        if references.ndim == 2:
            references = references[None, :, None]
        around = references[:, :, None, :, None]
        if references.shape[-1] == 4:
            return around[..., :2] + offsets / self.points * around[..., 2:] * 0.5
        sizes_L2 = torch.tensor([(cols, rows) for rows, cols in grids], dtype=offsets.dtype, device=offsets.device)
        return around + offsets / sizes_L2[:, None]


def sample_levels(values_BShD: Tensor, places: Tensor, weights_BShP: Tensor, grids: Sequence[Grid]) -> Tensor:
    """Reads every place bilinearly and adds the readings up by their weights.

    Args:
        values_BShD: The levels, flattened, with heads apart.
        places: (B, S, heads, levels, points, 2), `xy` in [0, 1]; beyond the border lies zero.
        weights_BShP: (B, S, heads, levels * points).
        grids: Rows and columns of each level.

    Returns:
        (B, S, C), heads side by side.
    """
    batch, count, heads = weights_BShP.shape[:3]
    levels = values_BShD.split([rows * cols for rows, cols in grids], dim=1)  # type: ignore[no-untyped-call]
    grid_places = (2 * places - 1).transpose(1, 2).flatten(0, 1)  # (B heads, S, levels, points, 2)
    read = read_between_cells if torch.compiler.is_exporting() else partial(F.grid_sample, align_corners=False)
    readings = []
    for index, (level, (rows, cols)) in enumerate(zip(levels, grids, strict=True)):
        maps = level.permute(0, 2, 3, 1).reshape(batch * heads, -1, rows, cols)
        readings.append(read(maps, grid_places[:, :, index]))
    weights = weights_BShP.transpose(1, 2).reshape(batch * heads, 1, count, -1)
    mixed = (torch.cat(readings, dim=-1) * weights).sum(-1)  # (B heads, D, S)
    return mixed.view(batch, -1, count).transpose(1, 2)
