"""The two towers under OWL-ViT's heads, and how they are fitted to the pictures and texts of a training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.transformer import TransformerTrunk
from clipself.detection.detectors.owl.heads import OwlHeads, OwlReading


@dataclass(frozen=True, kw_only=True, slots=True)
class OwlTokens:
    """What the heads stand on.

    Attributes:
        patches_BPC: Row by row.
        class_B1C: The class token; of no meaning to heads that drop it.
        grid: Rows and columns.
    """

    patches_BPC: Tensor
    class_B1C: Tensor
    grid: tuple[int, int]


def last_tokens(trunk: TransformerTrunk, images_B3HW: Tensor, *, dropped_BL: Tensor | None = None) -> OwlTokens:
    """Tokens after the last block, run as it is, and its norm; without the projection.

    Args:
        trunk: With blocks.
        images_B3HW: Normalised.
        dropped_BL: Blocks that a picture goes past, boolean.
    """
    tokens = trunk.embed(images_B3HW)
    for place, block in enumerate(trunk.blocks):
        out = trunk.forward_block(block, tokens)
        if dropped_BL is not None:
            out = torch.where(dropped_BL[:, place, None, None].to(out.device), tokens.tokens, out)
        tokens = tokens.with_tokens(out)
    normed = trunk.final_norm(tokens.tokens)
    return OwlTokens(patches_BPC=normed[:, tokens.prefix :], class_B1C=normed[:, :1], grid=tokens.grid)


def dense_tokens(clip: DenseCLIP, images_B3HW: Tensor, *, readout: str) -> OwlTokens:
    """The dense map's embeddings as tokens, of unit length times the root of their width; there is no class token."""
    dense_BDYX = clip.dense_map(images_B3HW, readout=readout)
    patches = dense_BDYX.flatten(2).mT * dense_BDYX.shape[1] ** 0.5
    return OwlTokens(
        patches_BPC=patches, class_B1C=torch.zeros_like(patches[:, :1]), grid=(dense_BDYX.shape[2], dense_BDYX.shape[3])
    )


class OwlNetwork(nn.Module):
    """A CLIP and the heads on it.

    Args:
        clip: Both towers.
        heads: On its tokens.
        readout: None reads the tokens of the trunk; else the dense map by this readout.
    """

    def __init__(self, clip: DenseCLIP, heads: OwlHeads, *, readout: str | None = None) -> None:
        super().__init__()
        self.clip, self.heads, self.readout = clip, heads, readout

    def read(self, images_B3HW: Tensor, *, dropped_BL: Tensor | None = None) -> OwlReading:
        """Boxes and class embeddings of all tokens."""
        if self.readout is not None:
            tokens = dense_tokens(self.clip, images_B3HW, readout=self.readout)
        else:
            trunk: Any = self.clip.trunk
            tokens = last_tokens(trunk, images_B3HW, dropped_BL=dropped_BL)
        reading: OwlReading = self.heads(tokens.patches_BPC, tokens.class_B1C, grid=tokens.grid)
        return reading

    def embed_ids(self, ids_KL: Tensor) -> Tensor:
        """Token ids of texts -> query embeddings (K, D), not normalised."""
        stock: Any = self.clip.clip
        rows: Tensor = stock.encode_text(ids_KL)
        return rows

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts -> query embeddings (K, D), not normalised."""
        return self.clip.encode_text(texts, normalize=False)


def fit_positions(clip: DenseCLIP, *, side: int) -> None:
    """Gives the image tower a position table of its own for square pictures, by lines from corner to corner.

    Source: OWL-ViT's release, which resizes by a spline of order 1 that keeps the corners in place. Towers that compute
    their positions, or whose table has the size already, stay as they are.

    Args:
        clip: Is changed; pass a copy.
        side: Of the pictures, in pixels.
    """
    visual: Any = clip.clip.visual
    rows = side // clip.patch_size
    table = getattr(visual, "positional_embedding", None)
    if not isinstance(table, nn.Parameter) or clip.trunk.native_grid == (rows, rows) or table.ndim != 2:
        return
    patches = table.detach()[1:].reshape(1, *clip.trunk.native_grid, -1).permute(0, 3, 1, 2).float()
    resized = F.interpolate(patches, size=(rows, rows), mode="bilinear", align_corners=True)
    flat = resized.flatten(2)[0].mT.to(table.dtype)
    visual.positional_embedding = nn.Parameter(torch.cat([table.detach()[:1], flat]))
    visual.grid_size, visual.image_size = (rows, rows), (side, side)
    clip._trunk = None
    clip.image_size = (side, side)


def cut_texts(clip: DenseCLIP, *, length: int) -> None:
    """Lets the text tower read this many tokens and no more: names are short, and time is spent on every position.

    Args:
        clip: Is changed; pass a copy.
        length: Tokens, begin and end included; a tower that reads fewer stays as it is.
    """
    stock: Any = clip.clip
    text: Any = getattr(stock, "text", stock)
    if text.context_length <= length:
        return
    text.positional_embedding = nn.Parameter(text.positional_embedding.detach()[:length].clone(), requires_grad=False)
    if getattr(text, "attn_mask", None) is not None:
        text.attn_mask = text.attn_mask[:length, :length].contiguous()
    text.context_length = length
    if hasattr(stock, "context_length") and stock is not text:
        stock.context_length = length
    clip.tokenizer = ShortTokenizer(clip.tokenizer, length)


class ShortTokenizer:
    """A tokenizer that ends its texts early.

    Args:
        tokenizer: open_clip's.
        length: Tokens of a text.
    """

    def __init__(self, tokenizer: Any, length: int) -> None:
        self.tokenizer, self.length = tokenizer, length

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids (K, length)."""
        ids: Tensor = self.tokenizer(texts, context_length=self.length)
        return ids
