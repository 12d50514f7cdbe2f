"""One group of classes after another gives what all of them at once would."""

import pytest
import torch

from clipself.segmentation.streamed_argmax import streamed_argmax


@pytest.mark.parametrize("at_once", [1, 3, 7, 20])
def test_groups_equal_argmax_and_softmax_of_all(at_once: int) -> None:
    scores = 5 * torch.randn(20, 4, 6, generator=torch.Generator().manual_seed(0))
    found = streamed_argmax(scores.split(at_once), softmax=True)  # type: ignore[no-untyped-call]
    assert torch.equal(found.labels_HW, scores.argmax(0))
    torch.testing.assert_close(found.scores_HW, scores.softmax(0).amax(0))
    plain = streamed_argmax(scores.split(at_once))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(plain.scores_HW, scores.amax(0))


def test_the_best_synonym_speaks_for_its_class() -> None:
    scores = torch.tensor([0.1, 0.9, 0.5])[:, None, None]
    assert streamed_argmax([scores], class_of=torch.tensor([0, 0, 1])).labels_HW.item() == 0


def test_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="the vocabulary is empty"):
        streamed_argmax([])
