"""The loss of CAT-Seg against PyTorch's own cross entropy on one-hot maps."""

import pytest
import torch
import torch.nn.functional as F

from clipself.losses.class_maps import class_map_loss


@pytest.mark.parametrize("ignored", ["masked", "negative"])
def test_it_is_the_cross_entropy_of_one_hot_maps(ignored: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 5, 4, 6, generator=generator)
    labels = torch.randint(0, 5, (2, 4, 6), generator=generator)
    labels[0, :2] = 255
    labelled = labels != 255
    one_hot = F.one_hot(labels.where(labelled, 0), 5).permute(0, 3, 1, 2) * labelled[:, None]
    each = F.binary_cross_entropy_with_logits(logits, one_hot.float(), reduction="none").mean(1)
    expected = each[labelled].mean() if ignored == "masked" else each.mean()
    torch.testing.assert_close(class_map_loss(logits, labels, ignore_label=255, ignored=ignored), expected)  # type: ignore[arg-type]
    total = class_map_loss(logits, labels, ignore_label=255, ignored=ignored, reduction="sum")  # type: ignore[arg-type]
    torch.testing.assert_close(total, (each[labelled] if ignored == "masked" else each).sum())


def test_wrong_shapes_and_labels_are_said() -> None:
    with pytest.raises(ValueError, match="resize the logits to the labels first"):
        class_map_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 8, 8, dtype=torch.long), ignore_label=255)
    with pytest.raises(ValueError, match="label 3 is outside the 3 classes"):
        class_map_loss(torch.zeros(1, 3, 2, 2), torch.full((1, 2, 2), 3), ignore_label=255)


def test_nothing_labelled_is_zero_and_not_nan() -> None:
    loss = class_map_loss(torch.ones(1, 3, 2, 2), torch.full((1, 2, 2), 255), ignore_label=255)
    assert loss.item() == 0.0
