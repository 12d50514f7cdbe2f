"""Losses of a set of boxes whose classes are told among the names that were shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipself.detection.detectors.deformable.loss import SetLoss, box_terms, names_of_layers
from clipself.detection.detectors.deformable.network import BoxSet
from clipself.detection.detectors.promptovd.network import PromptedSet
from clipself.losses.assignment import Match, match


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What one picture is shown, and what it holds of that.

    Attributes:
        columns_N: Place of each box's class among the names that are shown.
        boxes_N4: `cxcywh` in shares of the picture.
    """

    columns_N: Tensor
    boxes_N4: Tensor


class PromptedLoss(SetLoss):
    """Source: Deformable DETR (arXiv:2010.04159): focal, L1 and generalised IoU, each layer matched by itself."""

    __slots__ = ()

    def terms(
        self, layers: Sequence[PromptedSet], proposals: BoxSet | None, shown: Sequence[Shown], *, num_boxes: Tensor
    ) -> dict[str, Tensor]:
        """Unweighted terms, by the names of `OvDetrLoss.terms`.

        Args:
            layers: Of the decoder, the last one last.
            proposals: Of the encoder: class-free.
            shown: For each picture.
            num_boxes: What all sums are divided by.

        Raises:
            FloatingPointError: A prediction is not finite.
        """
        found: dict[str, Tensor] = {}
        truths = [one.boxes_N4 for one in shown]
        with torch.autocast(layers[0].boxes_BQ4.device.type, enabled=False):
            for name, layer in zip(names_of_layers(len(layers)), layers, strict=True):
                matches = [self._match(layer, index, one) for index, one in enumerate(shown)]
                wanted_BQK = torch.zeros_like(layer.logits_BQK, dtype=torch.float32)
                for wanted_QK, pair, one in zip(wanted_BQK, matches, shown, strict=True):
                    wanted_QK[pair.queries_M, one.columns_N[pair.targets_M]] = 1.0
                classes = self.focal.loss(layer.logits_BQK.float(), wanted_BQK).sum()
                terms = {"classes": classes, **box_terms(layer.boxes_BQ4, matches, truths)}
                found |= {f"{term}{name}": value for term, value in terms.items()}
            if proposals is not None:
                terms = self.proposal_terms(proposals, truths)
                found |= {f"{term}_proposals": value for term, value in terms.items()}
        return {name: value / num_boxes for name, value in found.items()}

    def _match(self, layer: PromptedSet, index: int, shown: Shown) -> Match:
        logits_QN = layer.logits_BQK[index][:, shown.columns_N]
        return match(self.cost(logits_QN, layer.boxes_BQ4[index], shown.boxes_N4))
