"""Tokens on their way through a trunk, and the shapes that attention gives them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Tokens on their way through the blocks.

    Attributes:
        tokens: (B, prefix + P, C), class token first where there is one, patches row by row.
        grid: Rows and columns of the patches, P = rows * columns.
        rope: Rotary table (P, 2 * head width) of a trunk that has one.
        prefix: Tokens ahead of the patches.
    """

    tokens: Tensor
    grid: tuple[int, int]
    rope: Tensor | None = None
    prefix: int = 1

    def with_tokens(self, tokens: Tensor) -> "Tokens":
        """The same grid and rotary table around other tokens."""
        return replace(self, tokens=tokens)

    def to_map(self) -> Tensor:
        """The patches alone, (B, C, Y, X)."""
        return to_map(self.tokens[:, self.prefix :], self.grid)


def to_map(patches_BPC: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, Y * X, C), row by row -> (B, C, Y, X)."""
    return patches_BPC.mT.reshape(patches_BPC.shape[0], patches_BPC.shape[2], *grid)


def split_heads(tokens_BNC: Tensor, num_heads: int) -> Tensor:
    """(B, N, C) -> (B, h, N, C / h)."""
    batch, count, width = tokens_BNC.shape
    return tokens_BNC.reshape(batch, count, num_heads, width // num_heads).transpose(1, 2)


def join_heads(heads_BhND: Tensor) -> Tensor:
    """(B, h, N, C / h) -> (B, N, C)."""
    return heads_BhND.transpose(1, 2).flatten(2)


def cut_sentences(tokens_KL: Tensor, longest: int) -> Tensor:
    """Token ids (K, L) with sentences cut to some tokens, the last of which ends it; all else is padding, 0.

    Args:
        tokens_KL: Start, words, end (the highest id of a row), zeros.
        longest: Tokens that may stay, start and end among them.
    """
    if longest >= tokens_KL.shape[1]:
        return tokens_KL
    cut_KL = tokens_KL.clone()
    cut_KL[:, longest:] = 0
    cut_rows = tokens_KL[:, longest:].any(1)
    cut_KL[cut_rows, longest - 1] = tokens_KL[cut_rows].amax(1)
    return cut_KL


def told_cut(texts: Sequence[str], tokens_KL: Tensor, tokenizer: Any) -> Tensor:
    """The tokens; warns once for a tokenizer, where it can count, of texts that are longer than its tower reads."""
    encode, longest = getattr(tokenizer, "encode", None), tokens_KL.shape[1]
    if encode is None or getattr(tokenizer, "told_cut", False):
        return tokens_KL
    full = torch.nonzero(tokens_KL[:, -1])[:, 0].tolist()
    cut = [row for row in full if len(encode(texts[row])) + 2 > longest]  # start and end
    if cut:
        tokenizer.told_cut = True
        log.warning(
            "%d of %d texts have more than the %d tokens that the model reads; what is behind them is left out, such "
            "as of %r", len(cut), len(texts), longest, f"{texts[cut[0]]:.80}",
        )  # fmt: skip
    return tokens_KL


def ready_rows(given: Any, *, width: int) -> Tensor | None:
    """Rows of the joint space that stand where texts may, as a tensor; None where they are texts.

    Raises:
        ValueError: They are not (K, width).
    """
    if not isinstance(given, Tensor) and not (isinstance(given, np.ndarray) and given.dtype.kind in "fiu"):
        return None
    rows_KD = torch.as_tensor(given)
    if rows_KD.ndim != 2 or rows_KD.shape[1] != width:
        raise ValueError(f"rows of texts are {tuple(rows_KD.shape)}, expected (K, {width}) of this model")
    return rows_KD
