import math

import pytest
import torch

from clipself.panoptic.mixture import log_mixture, log_softmax, overlapping, with_void
from clipself.panoptic.text import best_of_each, class_logits
from clipself.structures import TextRows
from clipself.text.synonyms import fill_plainly, split_synonyms


def test_a_class_has_the_score_of_its_best_name() -> None:
    scores = torch.tensor([[1.0, 5.0, 2.0, 0.0, 3.0, 4.0]])
    assert best_of_each(scores, (2, 1, 3)).tolist() == [[5.0, 2.0, 4.0]]
    assert best_of_each(scores, (1,) * 6) is scores


def test_logits_are_scaled_cosines_with_void_last() -> None:
    text = TextRows(rows_SD=torch.tensor([[2.0, 0.0], [0.0, 3.0]]), counts=(1, 1))
    embedding, void = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[-1.0, 0.0]])
    torch.testing.assert_close(class_logits(embedding, text, scale=10.0), torch.tensor([[[6.0, 8.0]]]))
    torch.testing.assert_close(
        class_logits(embedding, text, scale=10.0, void_1D=void), torch.tensor([[[6.0, 8.0, -6.0]]])
    )


def test_classes_that_share_a_name_with_training_were_seen() -> None:
    test = [split_synonyms(name) for name in ("person,child", "automobile", "lake", "wall, brick wall")]
    seen = [split_synonyms(name) for name in ("person", "car,automobile", "brick")]
    assert overlapping(test, seen) == [True, True, False, False]
    with pytest.raises(ValueError, match="an empty name between its commas"):
        split_synonyms("cat,,dog")
    assert fill_plainly(["a", "b"], ["x {}", "{} y"]) == ["x a", "a y", "x b", "b y"]


def test_the_mixture_is_the_weighted_geometric_mean() -> None:
    inside, outside = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    mixed = log_mixture(inside, outside, seen=(True, False, True), alpha=0.3, beta=0.7)
    p, q = inside.softmax(-1), outside.softmax(-1)
    for k, share in enumerate((0.3, 0.7, 0.3)):
        expected = (p[..., k] ** (1 - share) * q[..., k] ** share).log()
        torch.testing.assert_close(mixed[..., k].double(), expected, rtol=1e-5, atol=1e-5)
    valid = torch.tensor([[True, False, True, False]])
    kept = log_mixture(inside, outside, seen=(True, False, True), alpha=0.3, beta=0.7, valid_BQ=valid)
    torch.testing.assert_close(kept[0, 1].double(), inside[0, 1].log_softmax(-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("gap", [1e2, 1e3, 3e4, math.inf])
@pytest.mark.parametrize("weights", [(0.0, 1.0), (0.3, 0.7), (1.0, 0.0)])
def test_probabilities_that_underflow_never_give_nan(
    dtype: torch.dtype, gap: float, weights: tuple[float, float]
) -> None:
    inside = torch.tensor([[[0.0, -gap, 1.0], [-gap, 0.0, -gap]]], dtype=dtype)
    outside = torch.tensor([[[-gap, 0.0, -gap], [0.0, -gap, -gap]]], dtype=dtype)
    mixed = log_mixture(inside, outside, seen=(True, False, True), alpha=weights[0], beta=weights[1])
    assert torch.isfinite(mixed).all()
    scores = with_void(mixed, torch.tensor([[[0.0], [1.0]]]))
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(1, 2), atol=1e-5, rtol=0)
    assert torch.isfinite(log_softmax(torch.tensor([0.0, -gap])).sum())


def test_void_takes_its_share_of_the_probability() -> None:
    scores = with_void(torch.tensor([[[0.0, math.log(3.0)]]]), torch.tensor([[[0.2]]]))
    torch.testing.assert_close(scores.exp(), torch.tensor([[[0.2, 0.6, 0.2]]]))


def test_what_cannot_be_meant_is_refused() -> None:
    logits = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        log_mixture(logits, logits, seen=(True,) * 3, alpha=1.1, beta=0.5)
    with pytest.raises(ValueError, match="both score every class but no void"):
        log_mixture(logits, torch.zeros(1, 2, 4), seen=(True,) * 3, alpha=0.5, beta=0.5)
    with pytest.raises(ValueError, match="each class needs at least one row"):
        TextRows(rows_SD=torch.zeros(3, 2), counts=(1, 1))
