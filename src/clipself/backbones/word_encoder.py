"""Vectors in place of words: anything that can be said in word-embedding space through the frozen text tower."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP


def has_word_vectors(text_cfg: Mapping[str, Any]) -> bool:
    """Whether a configuration is of a text tower that `WordEncoder` takes: causal, and read where the text ends."""
    other = ("no_causal_mask", "embed_cls", "hf_model_name")
    return not any(text_cfg.get(key) for key in other) and text_cfg.get("pool_type", "argmax") == "argmax"


class WordEncoder(nn.Module):
    """The text tower from its word embeddings on, frozen; gradients flow to the vectors.

    Args:
        clip: A CLIP whose text tower is open_clip's causal transformer.

    Raises:
        ValueError: There is no text tower, or it is of another kind.
    """

    def __init__(self, clip: DenseCLIP) -> None:
        super().__init__()
        if clip.identity.text is None:
            raise ValueError("the checkpoint held no text tower, and pseudo words need one; load it with text_from=...")
        tower: Any = getattr(clip.clip, "text", clip.clip)
        ends = getattr(tower, "pool_type", "argmax") == "argmax"
        if getattr(tower, "attn_mask", None) is None or getattr(tower, "cls_emb", None) is not None or not ends:
            raise ValueError(f"pseudo words need open_clip's causal text transformer, this is {type(tower).__name__}")
        self._tower = [tower]  # not a submodule: it belongs to the clip
        self.width = int(tower.token_embedding.weight.shape[1])
        self.context = int(tower.positional_embedding.shape[0])
        empty = clip.tokenizer([""])[0]
        self.start, self.end = int(empty[0]), int(empty.max())

    def forward(self, words_RLC: Tensor) -> Tensor:
        """Sequences of word vectors -> what the tower makes of "start, words, end" (R, D), of any length.

        Args:
            words_RLC: (R, L, C) with L at most the context less two.

        Raises:
            ValueError: The sequence does not fit into the context.
        """
        rows, length = words_RLC.shape[:2]
        if length + 2 > self.context:
            raise ValueError(f"{length} pseudo words do not fit into a context of {self.context} with start and end")
        (tower,) = self._tower
        table: Tensor = tower.token_embedding.weight
        ends = [table[token].expand(rows, 1, -1) for token in (self.start, self.end)]
        tokens = torch.cat([ends[0], words_RLC, ends[1]], dim=1)
        tokens = tokens + tower.positional_embedding[: length + 2]
        mask = tower.attn_mask[: length + 2, : length + 2]
        last = tower.ln_final(tower.transformer(tokens, attn_mask=mask))[:, -1]
        projection = tower.text_projection
        if projection is None:
            return last  # type: ignore[no-any-return]
        embedded: Tensor = projection(last) if isinstance(projection, nn.Linear) else last @ projection
        return embedded
