"""The loss of SAN: masks matched with the classes of a picture."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from clipself.engine.step import Step
from clipself.losses.mask_classification import MaskClassificationLoss
from clipself.segmentation.san.model import San
from clipself.structures import MaskTargets, SemanticBatch


class SanLoss:
    """Loss of SAN: masks matched with the classes of the picture, at every supervised depth.

    Args:
        model: The model; its settings say at how many points masks are compared.
        names: Classes to learn.
        ignore_label: Unlabelled pixels.
    """

    def __init__(self, model: San, names: Sequence[str], *, ignore_label: int) -> None:
        self.bare, self.ignore_label = model, ignore_label
        self.loss = MaskClassificationLoss(num_points=model.settings.num_points)
        self.texts_TD = model.embed_names(names)

    def counts(self, batch: SemanticBatch) -> dict[str, Tensor | float]:
        """Masks, and the weights of all predictions' classes."""
        return {**self.loss.counts(self.targets(batch), queries=self.bare.settings.queries or 0)}

    def targets(self, batch: SemanticBatch) -> list[MaskTargets]:
        """One mask for each class of each picture."""
        return [class_masks(labels, ignore_label=self.ignore_label) for labels in batch.labels_BHW]

    def losses(self, model: nn.Module, batch: SemanticBatch, step: Step) -> Mapping[str, Tensor]:
        """The three terms; a picture meets the same points whatever batch it is in."""
        predictions = model(self.bare.normalize(batch.pixels_B3HW), self.texts_TD.to(batch.pixels_B3HW.device))
        generators = [step.generator("points", name) for name in batch.names]
        return self.loss.shares(predictions, self.targets(batch), generators=generators, totals=step.totals)


def class_masks(labels_HW: Tensor, *, ignore_label: int) -> MaskTargets:
    """One mask for each class of a label map."""
    present = torch.unique(labels_HW)
    present = present[present != ignore_label]
    return MaskTargets(labels_N=present, masks_NHW=labels_HW[None] == present[:, None, None])
