"""Names to rows of the joint space, by the published prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.text.synonyms import fill_plainly, split_synonyms
from clipself.text.templates import load_templates, spoken_name

SENTENCES_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRows:
    """Names as embeddings; a class may have several.

    Attributes:
        rows_SD: One row a name, the names of a class one after another.
        counts: How many names each class has.
    """

    rows_SD: Tensor
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.rows_SD.ndim != 2 or sum(self.counts) != len(self.rows_SD) or not self.counts or min(self.counts) < 1:
            raise ValueError(
                f"{tuple(self.rows_SD.shape)} rows do not hold the names of {len(self.counts)} classes "
                f"({sum(self.counts)} names); each class needs at least one row of the joint space"
            )

    def to(self, device: torch.device | str) -> "TextRows":
        """The same rows on another device."""
        return TextRows(rows_SD=self.rows_SD.to(device), counts=self.counts)


def class_logits(
    embeddings_BQD: Tensor, text: TextRows, *, scale: Tensor | float, void_1D: Tensor | None = None
) -> Tensor:
    """Scaled cosines, the best of a class's names.

    Source: OpenSeg's prompt ensembling as in ODISE and FC-CLIP.

    Args:
        embeddings_BQD: One embedding a mask, any length.
        text: Names.
        scale: What the cosine is multiplied with.
        void_1D: Embedding of "no object", which becomes the last column.

    Returns:
        Logits (B, Q, K), or (B, Q, K + 1) with void.
    """
    rows = text.rows_SD if void_1D is None else torch.cat([text.rows_SD, void_1D])
    counts = text.counts if void_1D is None else (*text.counts, 1)
    cosine_BQS = F.normalize(embeddings_BQD, dim=-1) @ F.normalize(rows, dim=-1).to(embeddings_BQD).T
    return scale * best_of_each(cosine_BQS, counts)


def best_of_each(scores_BQS: Tensor, counts: Sequence[int]) -> Tensor:
    """The largest score of each run of columns.

    Args:
        scores_BQS: One column a name.
        counts: Length of each run.

    Returns:
        One column a class.
    """
    longest = max(counts)
    if longest == 1:
        return scores_BQS
    columns, start = [], 0
    for count in counts:
        columns.append([start + min(place, count - 1) for place in range(longest)])
        start += count
    index = torch.tensor(columns, device=scores_BQS.device)
    return scores_BQS[..., index].amax(-1)


def average_templates(prompts_TD: Tensor, *, names: int) -> Tensor:
    """Each prompt normalised, averaged over the sentences of a name, normalised again.

    Args:
        prompts_TD: Text embeddings, all sentences of the first name first.
        names: How many names there are.

    Returns:
        (names, D).
    """
    each = F.normalize(prompts_TD, dim=-1).reshape(names, -1, prompts_TD.shape[-1])
    return F.normalize(each.mean(1), dim=-1)


@torch.no_grad()
def embed_names(clip: DenseCLIP, names: Sequence[str], *, templates: str = "vild") -> TextRows:
    """Embeds classes; a name with commas is several names of one class.

    Names are spoken: "sky-other-merged" is asked for as "sky", "floor_wood" as "floor wood".

    Args:
        clip: The model whose text tower speaks.
        names: One string a class.
        templates: A set of sentences by name, or a text file.

    Raises:
        ValueError: There are no names, one is empty, or the model has no text tower.
    """
    if not names:
        raise ValueError("there are no names to look for; pass at least one")
    split = [split_synonyms(name) for name in names]
    flat = [spoken_name(name, drop_suffixes=True) for some in split for name in some]
    sentences = load_templates(templates)
    at_once = max(1, SENTENCES_AT_ONCE // len(sentences))
    rows = []
    for start in range(0, len(flat), at_once):
        some = flat[start : start + at_once]
        prompts = clip.encode_text(fill_plainly(some, sentences)).float()
        rows.append(average_templates(prompts, names=len(some)))
    return TextRows(rows_SD=torch.cat(rows), counts=tuple(map(len, split)))
