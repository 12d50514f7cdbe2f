"""Which classes a loss tells apart where no image is labelled with all of them."""

import torch
from torch import Tensor


def federated_columns(
    labels_R: Tensor, *, weights_K: Tensor, number: int, generator: torch.Generator, background_counts: bool = False
) -> Tensor:
    """The classes that are there, and others by chance until there are `number`.

    A rare class is then seldom a wrong answer, as it is seldom a right one. Source: the federated loss of CenterNet2
    (arXiv:2103.07461, Sec. 4.2), as Detic (arXiv:2201.02605) uses it on LVIS: 50 classes, weights of the root of their
    number of images.

    Args:
        labels_R: Column of each row's class; the last column is the background.
        weights_K: Weight of each column in the draw, the background's ignored; 0 for what must not take part.
        number: Classes wanted; more are there if the labels are more, fewer if the weights allow no more.
        generator: Source of the draw, on the CPU.
        background_counts: Whether the background, where it is among the labels, is one of the `number`, as in the
            released code of Detic.

    Returns:
        Columns that take part, boolean (K,), the background among them.
    """
    chosen_K = torch.zeros(len(weights_K), dtype=torch.bool)
    chosen_K[labels_R.cpu()] = True
    held = int(chosen_K.sum()) if background_counts else int(chosen_K[:-1].sum())
    odds_K = federated_odds(labels_R, weights_K=weights_K)
    wanted = min(number - held, int((odds_K > 0).sum()))
    chosen_K[-1] = True
    if wanted > 0:
        chosen_K[torch.multinomial(odds_K, wanted, generator=generator)] = True
    return chosen_K.to(labels_R.device)


def federated_odds(labels_R: Tensor, *, weights_K: Tensor) -> Tensor:
    """Weights of the draw (K,), on the CPU: 0 for the background and for classes that are there already.

    Args:
        labels_R: Column of each row's class.
        weights_K: Weight of each column.
    """
    odds_K = weights_K.cpu().float().clone()
    odds_K[labels_R.cpu()] = 0.0
    odds_K[-1] = 0.0
    return odds_K
