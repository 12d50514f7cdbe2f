"""What OWL-ViT puts on a trunk: tokens merged with the class token, a class head, a box head, an objectness head.

Source: OWL-ViT (arXiv:2205.06230, Sec. 3.1) and OWLv2 (arXiv:2306.09683) for the objectness, as released.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.choices import pick
from clipself.losses.set_prediction import corners

NO_QUERY: Final = -1e6
"""Logit of a padding query."""
RARELY: Final = math.log(0.01 / 0.99)
"""Shift of the logits at the start: every query is as likely as one in a hundred."""

MERGES: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "drop": lambda patches, class_token: patches,
    "sum": lambda patches, class_token: patches + class_token,
    "mul": lambda patches, class_token: patches * class_token,
    "drop-ln": lambda patches, class_token: patches,
    "sum-ln": lambda patches, class_token: patches + class_token,
    "mul-ln": lambda patches, class_token: patches * class_token,
}
"""How the class token is brought into every patch; with "-ln" a LayerNorm follows."""

GELUS: Final[Mapping[str, str]] = {"tanh": "tanh", "exact": "none"}
"""Form of the box head's activation -> torch's name of it; released weights were trained with "tanh"."""

BOX_BIASES: Final[Mapping[str, tuple[int, int]]] = {"both": (1, 1), "location": (1, 0), "size": (0, 1), "none": (0, 0)}
"""Where a token's box starts: which of its cell's place and size it takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwlReading:
    """What the heads say of the tokens of some pictures.

    Attributes:
        features_BPC: Merged tokens.
        classes_BPD: Class embeddings, unit length where the head normalises.
        shift_BP1: Added to the cosine.
        scale_BP1: Factor of it, above 0.
        boxes_BP4: `cxcywh` in shares of the canvas.
        objectness_BP: Logit of there being anything; None without that head.
    """

    features_BPC: Tensor
    classes_BPD: Tensor
    shift_BP1: Tensor
    scale_BP1: Tensor
    boxes_BP4: Tensor
    objectness_BP: Tensor | None = None


class BoxMlp(nn.Module):
    """Three layers; the last one starts at 0, so that each token starts as its own cell."""

    def __init__(self, channels: int, *, out: int = 4, gelu: str = "tanh") -> None:
        super().__init__()
        self.dense0, self.dense1 = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.dense2 = nn.Linear(channels, out)
        self.gelu = pick(GELUS, gelu, what="form of the activation")
        nn.init.zeros_(self.dense2.weight)
        nn.init.zeros_(self.dense2.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(..., channels) -> (..., out)."""
        hidden = F.gelu(self.dense0(features), approximate=self.gelu)
        out: Tensor = self.dense2(F.gelu(self.dense1(hidden), approximate=self.gelu))
        return out


class OwlHeads(nn.Module):
    """Tokens of any trunk -> boxes and class embeddings.

    Args:
        channels: Width of the tokens.
        embed_dim: Width of the query embeddings.
        merge: Row of `MERGES`.
        norm_eps: Of the norm after the merge.
        normalize: Whether class embeddings and queries are brought to unit length.
        gelu: Row of `GELUS`.
        box_bias: Row of `BOX_BIASES`.
        objectness: Whether there is an objectness head, which learns on detached tokens.
        aligned: Whether the class layer starts as the identity, for tokens that are in the joint space already.
    """

    def __init__(
        self,
        *,
        channels: int,
        embed_dim: int,
        merge: str = "mul-ln",
        norm_eps: float = 1e-6,
        normalize: bool = True,
        gelu: str = "tanh",
        box_bias: str = "both",
        objectness: bool = False,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self.merge, self.normalize = pick(MERGES, merge, what="merge of the class token"), normalize
        self.starts_at = pick(BOX_BIASES, box_bias, what="box bias")
        self.norm = nn.LayerNorm(channels, eps=norm_eps) if merge.endswith("-ln") else nn.Identity()
        self.embed = nn.Linear(channels, embed_dim)
        self.shift, self.scale = nn.Linear(channels, 1), nn.Linear(channels, 1)
        self.box = BoxMlp(channels, gelu=gelu)
        self.objectness = BoxMlp(channels, out=1, gelu=gelu) if objectness else None
        if aligned:
            nn.init.eye_(self.embed.weight)
        else:
            nn.init.normal_(self.embed.weight, std=1e-6)
        if self.objectness is not None:
            nn.init.constant_(self.objectness.dense2.bias, RARELY)
        nn.init.zeros_(self.embed.bias)
        nn.init.constant_(self.shift.bias, RARELY)

    def forward(self, patches_BPC: Tensor, class_B1C: Tensor, *, grid: tuple[int, int]) -> OwlReading:
        """Reads the tokens.

        Args:
            patches_BPC: Row by row.
            class_B1C: The class token.
            grid: Rows and columns of the patches.
        """
        features: Tensor = self.norm(self.merge(patches_BPC, class_B1C))
        classes: Tensor = self.embed(features).float()
        bias_P4 = cell_bias(grid, starts_at=self.starts_at).to(features.device)
        return OwlReading(
            features_BPC=features,
            classes_BPD=unit(classes) if self.normalize else classes,
            shift_BP1=self.shift(features).float(),
            scale_BP1=F.elu(self.scale(features).float()) + 1,
            boxes_BP4=(self.box(features).float() + bias_P4).sigmoid(),
            objectness_BP=None if self.objectness is None else self.objectness(features.detach()).float()[..., 0],
        )

    def logits(self, reading: OwlReading, queries_BQD: Tensor) -> Tensor:
        """Logits (B, P, Q) of query embeddings: each picture's own (B, Q, D), or the same for all (1, Q, D)."""
        queries = queries_BQD.float()
        cosine = reading.classes_BPD @ (unit(queries) if self.normalize else queries).mT
        return (cosine + reading.shift_BP1) * reading.scale_BP1


def unit(vectors: Tensor) -> Tensor:
    """Unit length along the last axis, with the published 1e-6 beside the norm."""
    length: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / (length + 1e-6)


def cell_bias(grid: tuple[int, int], *, starts_at: tuple[int, int] = (1, 1)) -> Tensor:
    """Logits of `cxcywh` that tokens start from, (P, 4): the lower right corner of the cell, one column wide and high.

    Args:
        grid: Rows and columns.
        starts_at: 1 or 0 for place and size; what is 0 starts at one half.
    """
    rows, cols = grid
    y = (torch.arange(1, rows + 1) / rows)[:, None].expand(rows, cols)
    x = (torch.arange(1, cols + 1) / cols)[None].expand(rows, cols)
    place = _logit(torch.stack([x, y], dim=-1).reshape(-1, 2))
    size = _logit(torch.full_like(place, 1 / cols))
    return torch.cat([place * starts_at[0], size * starts_at[1]], dim=-1)


def _logit(share: Tensor, *, eps: float = 1e-4) -> Tensor:
    return (share + eps).log() - (eps - share).log1p()


def to_canvas(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """`cxcywh` in shares of a canvas of `size` = (height, width) -> `xyxy` in its pixels."""
    height, width = size
    return corners(boxes) * boxes.new_tensor([width, height, width, height])
