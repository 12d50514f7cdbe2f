"""Retrieval of texts by pictures and of pictures by texts."""

from collections.abc import Sequence

import torch
from torch import Tensor


def recall_at(similarity_NM: Tensor, belongs_NM: Tensor, ranks: Sequence[int]) -> dict[int, float]:
    """Share of the queries that find one of their own among the best.

    Args:
        similarity_NM: Of each query with each candidate.
        belongs_NM: Which candidates are a query's own; each query has one at least.
        ranks: How many of the best count.

    Returns:
        Rank -> share in [0, 1].

    Raises:
        ValueError: A similarity is NaN, or a query has nothing of its own.
    """
    if bool(similarity_NM.isnan().any()):
        raise ValueError("similarities hold NaN, which cannot be ranked; is an embedding not finite?")
    if not bool(belongs_NM.any(1).all()):
        lost = int((~belongs_NM.any(1)).nonzero()[0])
        raise ValueError(f"nothing belongs to query {lost}, which can never be found; leave it out")
    best_N = similarity_NM.masked_fill(~belongs_NM, float("-inf")).amax(1, keepdim=True)
    ahead_N = ((similarity_NM >= best_N) & ~belongs_NM).sum(1)  # a tie counts against the query
    return {rank: float((ahead_N < rank).double().mean()) for rank in ranks}


def retrieval_scores(images_ND: Tensor, texts_MD: Tensor, image_of_M: Tensor) -> dict[str, float]:
    """Recall at 1, 5 and 10 both ways, in percent.

    Args:
        images_ND: Unit embeddings of pictures.
        texts_MD: Unit embeddings of texts.
        image_of_M: Picture of each text.
    """
    similarity_NM = images_ND @ texts_MD.mT
    belongs_NM = image_of_M[None] == torch.arange(len(images_ND), device=image_of_M.device)[:, None]
    ways = {"image to text": (similarity_NM, belongs_NM), "text to image": (similarity_NM.mT, belongs_NM.mT)}
    return {
        f"{way} R@{rank}": 100 * share
        for way, (similarity, belongs) in ways.items()
        for rank, share in recall_at(similarity, belongs, (1, 5, 10)).items()
    }
