"""The loss of SAN: masks matched with the classes of a picture."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clipself.losses.mask_classification import MaskClassificationLoss
from clipself.segmentation.san.model import San
from clipself.structures import MaskTargets, SemanticBatch


class SanMethod:
    """Loss of SAN: masks matched with the classes of the picture, at every supervised depth.

    Args:
        model: The model.
        names: Classes to learn.
        ignore_label: Unlabelled pixels.
        num_points: Points of a mask in matching and loss.
    """

    def __init__(self, model: San, names: Sequence[str], *, ignore_label: int, num_points: int = 12544) -> None:
        self.bare, self.ignore_label, self.step = model, ignore_label, 0
        self.loss = MaskClassificationLoss(num_points=num_points)
        self.texts_TD = model.embed_names(names)

    def count(self, batch: SemanticBatch) -> int:
        """Pictures: the loss of a micro-batch is a mean over its masks, as published."""
        return len(batch.names)

    def images(self, batch: SemanticBatch) -> int:
        """Pictures."""
        return len(batch.names)

    def names(self, batch: SemanticBatch) -> Sequence[str]:
        """Where they came from."""
        return batch.names

    def loss_sum(self, model: nn.Module, batch: SemanticBatch) -> Tensor:
        """The loss of the micro-batch times its pictures."""
        device = next(self.bare.parameters()).device
        batch = batch.to(device)
        targets = [class_masks(labels, ignore_label=self.ignore_label) for labels in batch.labels_BHW]
        predictions = model(self.bare.normalize(batch.pixels_B3HW), self.texts_TD.to(device))
        return len(batch.names) * self.loss(predictions, targets)


def class_masks(labels_HW: Tensor, *, ignore_label: int) -> MaskTargets:
    """One mask for each class of a label map."""
    present = torch.unique(labels_HW)
    present = present[present != ignore_label]
    return MaskTargets(labels_N=present, masks_NHW=labels_HW[None] == present[:, None, None])
