"""The loss of the context is its formula, and quiet where nothing differs."""

import math

import pytest
import torch

from clipself.losses.context import context_loss, patch_cosines


def test_the_loss_is_the_mean_length_of_differing_rows() -> None:
    ours, theirs = torch.randn(2, 2, 5, 4, generator=torch.Generator().manual_seed(0))

    def rows(patches: list[list[float]]) -> list[list[float]]:
        return [
            [sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b)) for b in patches]
            for a in patches
        ]

    total = 0.0
    for one, two in zip(ours.tolist(), theirs.tolist(), strict=True):
        for mine, wanted in zip(rows(one), rows(two), strict=True):
            total += math.sqrt(sum((a - b) ** 2 for a, b in zip(mine, wanted, strict=True)))
    found = context_loss(patch_cosines(ours), patch_cosines(theirs))
    assert found.item() == pytest.approx(total / 10, abs=1e-5)
    summed = context_loss(patch_cosines(ours), patch_cosines(theirs), reduction="sum")
    assert summed.item() == pytest.approx(total, abs=1e-4)


def test_what_agrees_gives_no_gradient_and_the_guide_none_at_all() -> None:
    ours = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    guide = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    same = patch_cosines(ours)
    context_loss(same, same.detach()).backward()  # type: ignore[no-untyped-call]
    assert ours.grad is not None
    assert torch.equal(ours.grad, torch.zeros_like(ours.grad))
    context_loss(patch_cosines(ours), patch_cosines(guide)).backward()  # type: ignore[no-untyped-call]
    assert guide.grad is None
    assert ours.grad.abs().sum() > 0


@pytest.mark.parametrize("shape", [(1, 4, 5), (1, 5, 5), (4, 4)])
def test_cosines_of_two_grids_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must both be \(B, P, P\), on one grid of patches"):
        context_loss(torch.zeros(shape), torch.zeros(1, 4, 4))
