"""Contrast between pairs that belong together and all that do not."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMPTY = -1
"""Group of a place of a queue that holds nothing yet."""


class PairQueue(nn.Module):
    """The last pairs that were contrasted, as further negatives; carried through a training, not saved with a model.

    Args:
        length: Pairs that it holds.
        dim: Width of their embeddings.
    """

    left_QD: Tensor
    right_QD: Tensor
    groups_Q: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("left_QD", torch.zeros(length, dim), persistent=False)
        self.register_buffer("right_QD", torch.zeros(length, dim), persistent=False)
        self.register_buffer("groups_Q", torch.full((length,), EMPTY, dtype=torch.long), persistent=False)

    @torch.no_grad()
    def push(self, left_ND: Tensor, right_ND: Tensor, groups_N: Tensor) -> None:
        """Takes pairs in; the oldest ones leave."""
        for held, new in ((self.left_QD, left_ND), (self.right_QD, right_ND), (self.groups_Q, groups_N)):
            held.copy_(torch.cat([held, new.detach().to(held)])[-len(held) :])


def info_nce(
    left_ND: Tensor,
    right_ND: Tensor,
    *,
    temperature: float | Tensor,
    groups_N: Tensor | None = None,
    queue: PairQueue | None = None,
) -> Tensor:
    """Symmetric InfoNCE (CLIP, arXiv:2103.00020, Fig. 3); rows of one group are not each other's negatives.

    Source: BARON (arXiv:2302.13996), Eq. 4: bags of one image overlap, so they are left out of the sum.

    Args:
        left_ND: Embeddings (N, D), any length.
        right_ND: Their partners (N, D), same order.
        temperature: Factor of the cosine.
        groups_N: Number of each row's group (N,), 0 or above; None: every other row is a negative.
        queue: Earlier pairs, negatives of both sides where they are of another group.

    Returns:
        Sum over the rows of the mean of both directions, in float32 at least; 0 without rows.

    Raises:
        ValueError: The two are not (N, D) of one shape.
    """
    if left_ND.shape != right_ND.shape or left_ND.ndim != 2:
        raise ValueError(f"{tuple(left_ND.shape)} and {tuple(right_ND.shape)} are not pairs; expected (N, D) twice")
    if not len(left_ND):
        return left_ND.float().sum() * 0
    kind = torch.promote_types(left_ND.dtype, torch.float32)
    left, right = (F.normalize(one.to(kind), dim=1) for one in (left_ND, right_ND))
    logits_NN = temperature * left @ right.mT
    if groups_N is not None:
        same_NN = groups_N[:, None] == groups_N[None]
        same_NN.fill_diagonal_(False)
        logits_NN = logits_NN.masked_fill(same_NN, float("-inf"))
    sides = [logits_NN, logits_NN.mT]
    if queue is not None:
        masked_NQ = (queue.groups_Q == EMPTY).expand(len(left), -1)
        if groups_N is not None:
            masked_NQ = masked_NQ | (groups_N[:, None] == queue.groups_Q[None])
        earlier = [
            (temperature * mine @ F.normalize(theirs.to(kind), dim=1).mT).masked_fill(masked_NQ, float("-inf"))
            for mine, theirs in ((left, queue.right_QD), (right, queue.left_QD))
        ]
        sides = [torch.cat(parts, dim=1) for parts in zip(sides, earlier, strict=True)]
    rows = torch.arange(len(logits_NN), device=logits_NN.device)
    both = [F.cross_entropy(logits, rows, reduction="sum") for logits in sides]
    return (both[0] + both[1]) / 2
