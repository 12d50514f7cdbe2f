"""Layers of a conditional DETR: attention whose projections the layer owns, by the released names.

Source: Conditional DETR (arXiv:2108.06152) and DAB-DETR (arXiv:2201.12329), as CORA (arXiv:2303.13076) runs them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.tokens import join_heads, split_heads


class MixHeads(nn.Module):
    """Attention between projected queries, keys and values; of its own it has the output projection.

    Args:
        width: Of the values.
        heads: Attention heads.
        dropout: Of the weights of attention.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, asked_BhQC: Tensor, keys_BhNC: Tensor, values_BNC: Tensor, padding_BN: Tensor | None = None
    ) -> Tensor:
        """Mixes values (B, Q, C); scaled by the root of the width of a head's queries; padding is not looked at."""
        seen = None if padding_BN is None else ~padding_BN[:, None, None]
        mixed = F.scaled_dot_product_attention(
            asked_BhQC, keys_BhNC, split_heads(values_BNC, self.heads), attn_mask=seen,
            dropout_p=self.dropout if self.training else 0.0,
        )  # fmt: skip
        out: Tensor = self.out_proj(join_heads(mixed))
        return out


class FeedForward(nn.Module):
    """Two linear layers around a PReLU with a slope of its own, added to what came and normalised after it.

    A base of both layers, so that the released names stay: `linear1`, `activation`, `linear2`.
    """

    def __init__(self, width: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.activation = nn.PReLU()
        self.linear2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def feed(self, rows: Tensor, norm: nn.Module) -> Tensor:
        """Post-norm residual."""
        hidden = self.dropout(self.activation(self.linear1(rows)))
        fed: Tensor = norm(rows + self.dropout(self.linear2(hidden)))
        return fed


class DecoderLayer(FeedForward):
    """Queries look at one another, then at the memory by content and by place.

    Args:
        width: Of queries and memory.
        hidden: Of the feed-forward part.
        heads: Attention heads.
        dropout: Of all parts.
        first: Whether places are added to contents as well, as in the first layer alone.
    """

    def __init__(self, width: int, hidden: int, *, heads: int, dropout: float, first: bool) -> None:
        super().__init__(width, hidden, dropout=dropout)
        self.heads = heads
        self.sa_qcontent_proj = nn.Linear(width, width)
        self.sa_qpos_proj = nn.Linear(width, width)
        self.sa_kcontent_proj = nn.Linear(width, width)
        self.sa_kpos_proj = nn.Linear(width, width)
        self.sa_v_proj = nn.Linear(width, width)
        self.self_attn = MixHeads(width, heads=heads, dropout=dropout)
        self.norm1 = nn.LayerNorm(width)
        self.ca_qcontent_proj = nn.Linear(width, width)
        self.ca_qpos_proj = nn.Linear(width, width) if first else None
        self.ca_kcontent_proj = nn.Linear(width, width)
        self.ca_kpos_proj = nn.Linear(width, width)
        self.ca_v_proj = nn.Linear(width, width)
        self.ca_qpos_sine_proj = nn.Linear(width, width)
        self.cross_attn = MixHeads(width, heads=heads, dropout=dropout)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(
        self,
        content_BQC: Tensor,
        places_BQC: Tensor,
        sines_BQC: Tensor,
        memory_BNC: Tensor,
        memory_places_BNC: Tensor,
        padding_BN: Tensor,
    ) -> Tensor:
        """One layer.

        Args:
            content_BQC: Queries.
            places_BQC: Their embedded boxes.
            sines_BQC: Sines of their centres, as this layer weighs them.
            memory_BNC: Encoded cells.
            memory_places_BNC: Sines of the cells.
            padding_BN: True where a cell is padding.
        """
        asked = self.sa_qcontent_proj(content_BQC) + self.sa_qpos_proj(places_BQC)
        keys = self.sa_kcontent_proj(content_BQC) + self.sa_kpos_proj(places_BQC)
        mixed = self.self_attn(self._split(asked), self._split(keys), self.sa_v_proj(content_BQC))
        content_BQC = self.norm1(content_BQC + self.dropout(mixed))
        asked, keys = self.ca_qcontent_proj(content_BQC), self.ca_kcontent_proj(memory_BNC)
        key_places = self.ca_kpos_proj(memory_places_BNC)
        if self.ca_qpos_proj is not None:
            asked, keys = asked + self.ca_qpos_proj(places_BQC), keys + key_places
        mixed = self.cross_attn(
            torch.cat([self._split(asked), self._split(self.ca_qpos_sine_proj(sines_BQC))], dim=-1),
            torch.cat([self._split(keys), self._split(key_places)], dim=-1),
            self.ca_v_proj(memory_BNC),
            padding_BN,
        )
        return self.feed(self.norm2(content_BQC + self.dropout(mixed)), self.norm3)

    def _split(self, rows_BNC: Tensor) -> Tensor:
        return split_heads(rows_BNC, self.heads)
