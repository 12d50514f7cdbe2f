"""Recall of retrieval, by sorting."""

import pytest
import torch

from clipself.metrics.retrieval import recall_at, retrieval_scores


def test_recall_by_sorting() -> None:
    similarity = torch.randn(7, 12, generator=torch.Generator().manual_seed(0))
    belongs = torch.zeros(7, 12, dtype=torch.bool)
    for query in range(7):
        belongs[query, [query, query + 5]] = True
    for rank, share in recall_at(similarity, belongs, (1, 2, 5)).items():
        found = 0
        for query in range(7):
            best = sorted(range(12), key=lambda one: -float(similarity[query, one]))[:rank]
            found += any(bool(belongs[query, one]) for one in best)
        assert share == found / 7


def test_a_tie_counts_against_the_query() -> None:
    assert recall_at(torch.zeros(1, 3), torch.tensor([[True, False, False]]), (1, 3)) == {1: 0.0, 3: 1.0}


def test_both_ways_with_several_texts_a_picture() -> None:
    images = torch.eye(3)
    texts = torch.stack([images[0], images[1], images[1], images[0]])  # the last belongs to the third picture
    scores = retrieval_scores(images, texts, torch.tensor([0, 1, 1, 2]))
    assert scores["image to text R@1"] == pytest.approx(
        100 / 3
    )  # the third's own text is the farthest, the first's is tied
    assert scores["text to image R@1"] == 75.0
    assert scores["text to image R@5"] == 100.0


def test_what_cannot_be_ranked_is_refused() -> None:
    similarity, belongs = torch.eye(3), torch.eye(3) > 0
    assert recall_at(similarity, belongs, (1,)) == {1: 1.0}
    with pytest.raises(ValueError, match="similarities hold NaN"):  # every query would be found
        recall_at(torch.full((3, 3), torch.nan), belongs, (1,))
    with pytest.raises(ValueError, match="nothing belongs to query 1"):
        recall_at(similarity, belongs & (torch.arange(3) != 1)[:, None], (1,))
