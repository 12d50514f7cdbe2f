import math

import pytest
import torch

from clipself.losses.grounding import caption_similarity, grounding_loss


def test_similarity_is_the_papers_sum_over_masks_and_mean_over_nouns() -> None:
    logits_BQS = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    captions = [[0, 2], [1, 2, 3]]
    found = caption_similarity(logits_BQS, [torch.tensor(one) for one in captions])
    for picture in range(2):
        for caption, nouns in enumerate(captions):
            total = 0.0
            for mask in range(3):
                row = [float(logits_BQS[picture, mask, noun]) for noun in nouns]
                weights = [math.exp(value) / sum(map(math.exp, row)) for value in row]
                total += sum(weight * value for weight, value in zip(weights, row, strict=True))
            assert float(found[picture, caption]) == pytest.approx(total / len(nouns), rel=1e-5)


def test_both_directions_are_cross_entropies_summed() -> None:
    pairs = torch.tensor([[2.0, 0.0, 1.0], [0.5, 1.5, 0.0], [0.0, 0.0, 3.0]])
    total = 0.0
    for one in range(3):
        for row in (pairs[one].tolist(), pairs[:, one].tolist()):
            total -= math.log(math.exp(row[one]) / sum(map(math.exp, row)))
    assert float(grounding_loss(pairs)) == pytest.approx(total, rel=1e-6)
    parts = [float(grounding_loss(pairs, torch.tensor(own))) for own in ([0], [1, 2])]
    assert sum(parts) == pytest.approx(total, rel=1e-6)
    assert float(grounding_loss(pairs[:1, :1])) == 0.0  # a picture alone has nothing to be told from
