import math

import pytest
import torch

from clipself.losses.cosine import cosine_loss


def test_the_loss_is_the_papers_mean_over_regions() -> None:
    student, teacher = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        total += 1.0 - sum(a * b for a, b in zip(s, t, strict=True)) / (math.hypot(*s) * math.hypot(*t))
    torch.testing.assert_close(cosine_loss(student, teacher), torch.tensor(total / 5))
    torch.testing.assert_close(cosine_loss(student, teacher, reduction="sum"), torch.tensor(total))


def test_no_regions_cost_nothing() -> None:
    assert float(cosine_loss(torch.zeros(0, 4), torch.zeros(0, 4))) == 0.0


def test_regions_without_crops_are_refused() -> None:
    with pytest.raises(ValueError, match="one crop for each region, in the same order"):
        cosine_loss(torch.zeros(3, 4), torch.zeros(2, 4))
