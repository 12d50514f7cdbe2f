"""Classes of sampled regions where the background is a last column: Detic's two losses, over columns that count."""

import torch
import torch.nn.functional as F
from torch import Tensor


def sigmoid_class_loss(logits_RK: Tensor, labels_R: Tensor, *, weights_K: Tensor | None = None) -> Tensor:
    """Binary cross entropy of each class by itself; a background region is negative for all of them.

    Source: Detic (arXiv:2201.02605), Sec. 4.1 and released code: divided by the number of regions, not of columns.

    Args:
        logits_RK: Scores (R, K); the last column is the background and takes no part.
        labels_R: Column of each region's class.
        weights_K: Weight of each class, positive and negative alike, (K - 1,) or (R, K - 1): 0 for classes that
            training has no images of, or that a federated draw left out; all 1 if not given.

    Returns:
        Loss of each region (R,), summed over the classes, in float32 at least.
    """
    logits_RC = logits_RK[:, :-1].to(torch.promote_types(logits_RK.dtype, torch.float32))
    wanted_RC = F.one_hot(labels_R, logits_RK.shape[1])[:, :-1].to(logits_RC)
    loss_RC = F.binary_cross_entropy_with_logits(logits_RC, wanted_RC, reduction="none")
    return (loss_RC if weights_K is None else loss_RC * weights_K.to(loss_RC)).sum(1)


def softmax_class_loss(logits_RK: Tensor, labels_R: Tensor, *, weights_K: Tensor | None = None) -> Tensor:
    """Mean cross entropy over all columns, the background among them; a weight is that of the regions of a class.

    Source: Detic, released code. Weights change which regions count, never the columns that they are told apart from:
    those of a federated draw, which holds every label, change nothing.

    Args:
        logits_RK: Scores (R, K); the last column is the background.
        labels_R: Column of each region's class.
        weights_K: Weight of each column (K,); all 1 if not given.

    Returns:
        The mean, weighted.
    """
    if not len(labels_R):
        return logits_RK.sum() * 0
    logits_RK = logits_RK.to(torch.promote_types(logits_RK.dtype, torch.float32))
    weights_K = None if weights_K is None else weights_K.to(logits_RK)
    return F.cross_entropy(logits_RK, labels_R, weight=weights_K)
