"""One minus the cosine between student regions and teacher crops."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def cosine_loss(student_RD: Tensor, teacher_RD: Tensor, *, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """The loss of CLIPSelf (arXiv:2310.01403, Eq. 1): 1 - cos, over all valid regions of the batch.

    Args:
        student_RD: Region embeddings (R, D) of the student; any length, normalised here.
        teacher_RD: Crop embeddings (R, D) of the teacher, same order.
        reduction: "mean" over the regions, or their "sum" for callers that divide by a count of their own.

    Returns:
        A scalar in float32; 0 where there are no regions.

    Raises:
        ValueError: The two are not (R, D) of one shape.
    """
    if student_RD.ndim != 2 or student_RD.shape != teacher_RD.shape:
        raise ValueError(
            f"student regions {tuple(student_RD.shape)} and teacher crops {tuple(teacher_RD.shape)} must both be "
            "(R, D): one crop for each region, in the same order"
        )
    loss_R = 1.0 - F.cosine_similarity(student_RD.float(), teacher_RD.float(), dim=-1)
    return loss_R.sum() if reduction == "sum" or not len(loss_R) else loss_R.mean()
