"""Detic's parts against loops, and its detectors on scenes."""

import torch

from clipself.detection.detectors.detic.classifier import ZeroShotClassifier, keep_best_class


def test_the_background_scores_nothing_and_rows_are_compared_by_direction() -> None:
    texts = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    model = ZeroShotClassifier(2, texts, temperature=10.0)
    model.linear.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    logits = model(torch.tensor([[4.0, 3.0]]))
    torch.testing.assert_close(logits, torch.tensor([[8.0, 6.0, 0.0]]))
    torch.testing.assert_close(model(torch.tensor([[4.0, 3.0]]), texts[1:]), torch.tensor([[6.0]]))
    model.use(texts[[1]])
    torch.testing.assert_close(model(torch.tensor([[4.0, 3.0]])), torch.tensor([[6.0, 0.0]]))


def test_a_bias_is_added_everywhere_and_plain_products_have_no_temperature() -> None:
    texts = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    model = ZeroShotClassifier(2, texts, temperature=10.0, bias=-4.6, normalise=False)
    model.linear.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    torch.testing.assert_close(model(torch.tensor([[4.0, 3.0]])), torch.tensor([[7.4, 10.4, -4.6]]))


def test_one_class_a_proposal() -> None:
    scores = torch.tensor([[0.1, 0.7, 0.2], [0.4, 0.3, 0.4]])
    assert keep_best_class(scores).tolist() == torch.tensor([[0, 0.7, 0], [0.4, 0, 0.4]]).tolist()
    assert keep_best_class(torch.zeros(2, 0)).shape == (2, 0)
