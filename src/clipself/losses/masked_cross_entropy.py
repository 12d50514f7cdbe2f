"""Cross entropy over the classes that training may see."""

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_cross_entropy(
    logits_RK: Tensor, labels_R: Tensor, *, seen_K: Tensor, background_weight: float = 1.0
) -> Tensor:
    """Softmax cross entropy in which unseen classes do not exist and the background weighs less.

    Source: F-ViT (CLIPSelf, detection). Unseen columns get no share of the probability and no gradient; a row counts
    with its label's weight, and the caller divides by the number of rows, not by the sum of the weights.

    Args:
        logits_RK: Scores (R, K); the last column is the background.
        labels_R: Column of each row's class.
        seen_K: Columns that take part, boolean, (K,) or (R, K) where rows differ; the background must.
        background_weight: Weight of the rows whose label is the background.

    Returns:
        Loss of each row (R,), in float32 at least.

    Raises:
        ValueError: The background is unseen, or a label is an unseen class, whose loss would be infinite.
    """
    if not bool(seen_K[..., -1].all()):
        raise ValueError("the last column is the background and must take part; set seen_K[-1] to True")
    wrong = ~seen_K.expand(logits_RK.shape).gather(1, labels_R[:, None])[:, 0]
    if bool(wrong.any()):
        label = int(labels_R[wrong][0])
        raise ValueError(
            f"label {label} is a class held out of training; drop the boxes of novel classes from the training data"
        )
    kind = torch.promote_types(logits_RK.dtype, torch.float32)
    logits = logits_RK.to(kind).masked_fill(~seen_K, float("-inf"))
    is_background_R = labels_R == logits_RK.shape[1] - 1
    weights = torch.where(is_background_R, background_weight, 1.0).to(kind)
    return F.cross_entropy(logits, labels_R, reduction="none") * weights
