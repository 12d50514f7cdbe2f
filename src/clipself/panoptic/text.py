"""Cosines with names, of which a class may have several."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.structures import TextRows as TextRows


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
