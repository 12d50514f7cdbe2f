"""Class names in sentences, embedded one by one: what every method here builds its classifier from."""

from collections.abc import Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.segmentation.catseg.settings import Synonyms
from clipself.text.synonyms import split_synonyms

SENTENCES_AT_ONCE: Final = 256
"""Sentences in one forward pass of the text tower."""


def embed_sentences(
    clip: DenseCLIP, names: Sequence[str], sentences: Sequence[str], *, synonyms: Synonyms = "first"
) -> Tensor:
    """Embeds every name in every sentence.

    Args:
        clip: The model whose text tower speaks; gradients flow where it learns.
        names: Class names; synonyms follow after commas.
        sentences: Each with "{}" for the name.
        synonyms: "first" leaves the others out; "mean" averages them for each sentence.

    Returns:
        Unit rows (T, P, D).

    Raises:
        ValueError: There are no names, one is empty, or the model has no text tower.
    """
    if not names:
        raise ValueError("there are no names to segment by; pass at least one")
    spoken = [split_synonyms(name)[: 1 if synonyms == "first" else None] for name in names]
    filled = [sentence.replace("{}", one) for some in spoken for one in some for sentence in sentences]
    starts = range(0, len(filled), SENTENCES_AT_ONCE)
    each = torch.cat([clip.encode_text(filled[start : start + SENTENCES_AT_ONCE]) for start in starts])
    rows, first = [], 0
    for some in spoken:
        count = len(some) * len(sentences)
        rows.append(each[first : first + count].reshape(len(some), len(sentences), -1).mean(0))
        first += count
    return F.normalize(torch.stack(rows), dim=-1)
