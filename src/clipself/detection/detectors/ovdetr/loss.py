"""OV-DETR's losses: boxes of each condition matched among the queries that were asked for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.detection.detectors.deformable.loss import (
    SetLoss,
    box_terms,
    costs_of,
    focal_of,
    names_of_layers,
    weights_of,
)
from clipself.detection.detectors.deformable.network import BoxSet
from clipself.detection.detectors.ovdetr.settings import OvDetrSettings
from clipself.losses.assignment import Match, match


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What one picture is asked for, and what it holds.

    Attributes:
        classes_R: Class of each condition; -1 fills a batch up and counts nowhere.
        rows_RD: Row of the joint space that each was asked by.
        labels_N: Classes of all its boxes, asked for or not.
        boxes_N4: `cxcywh` in shares of the picture.
    """

    classes_R: Tensor
    rows_RD: Tensor
    labels_N: Tensor
    boxes_N4: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class OvDetrLoss(SetLoss):
    """Source: OV-DETR (arXiv:2203.11876), Sec. 3.3, constants of the released code.

    Attributes:
        embedding: Weight of the distance to the row that was asked by.
    """

    embedding: float = 2.0

    def terms(
        self, layers: Sequence[BoxSet], proposals: BoxSet | None, asked: Sequence[Asked], *, num_boxes: Tensor | float
    ) -> dict[str, Tensor]:
        """Unweighted terms.

        Args:
            layers: Of the decoder, the last one last.
            proposals: Of the encoder: class-free, matched with all boxes.
            asked: For each picture.
            num_boxes: What all sums are divided by: boxes of the classes that were asked for.

        Returns:
            "classes", "box", "overlap" and "embedding" of the last layer; of earlier layers with "_0", "_1", ... behind
            them; of the proposals with "_proposals".

        Raises:
            FloatingPointError: A prediction is not finite.
        """
        found: dict[str, Tensor] = {}
        with torch.autocast(layers[0].boxes_BN4.device.type, enabled=False):
            for name, layer in zip(names_of_layers(len(layers)), layers, strict=True):
                found |= {f"{term}{name}": value for term, value in self._layer_terms(layer, asked).items()}
            if proposals is not None:
                terms = self.proposal_terms(proposals, [one.boxes_N4 for one in asked])
                found |= {f"{term}_proposals": value for term, value in terms.items()}
        return {name: value / num_boxes for name, value in found.items()}

    def weights_of_kinds(self) -> dict[str, float]:
        """Kind of a term -> its weight."""
        classes, box, overlap = self.weights.classes, self.weights.box, self.weights.overlap
        return {"classes": classes, "box": box, "overlap": overlap, "embedding": self.embedding}

    def match_asked(self, layer: BoxSet, index: int, asked: Asked) -> Match:
        """Each condition's boxes among its own queries, condition after condition."""
        copies = len(asked.classes_R)
        queries = layer.logits_BN.shape[1] // copies
        pairs = []
        for copy, wanted in enumerate(asked.classes_R.tolist()):
            targets = (asked.labels_N == wanted).nonzero()[:, 0]
            if wanted < 0 or not len(targets):
                continue
            own = slice(copy * queries, (copy + 1) * queries)
            one = match(self.cost(layer.logits_BN[index, own], layer.boxes_BN4[index, own], asked.boxes_N4[targets]))
            pairs.append(Match(queries_M=one.queries_M + copy * queries, targets_M=targets[one.targets_M]))
        nothing = asked.labels_N.new_zeros(0)
        return Match(
            queries_M=torch.cat([nothing, *(pair.queries_M for pair in pairs)]),
            targets_M=torch.cat([nothing, *(pair.targets_M for pair in pairs)]),
        )

    def _layer_terms(self, layer: BoxSet, asked: Sequence[Asked]) -> dict[str, Tensor]:
        matches = [self.match_asked(layer, index, one) for index, one in enumerate(asked)]
        wanted_BN = torch.zeros_like(layer.logits_BN, dtype=torch.float32)
        for wanted_N, pair in zip(wanted_BN, matches, strict=True):
            wanted_N[pair.queries_M] = 1.0
        classes_BN = self.focal.loss(layer.logits_BN.float(), wanted_BN) * _counted(asked, wanted_BN.shape[1])
        assert layer.embeddings_BND is not None
        return {
            "classes": classes_BN.sum(),
            **box_terms(layer.boxes_BN4, matches, [one.boxes_N4 for one in asked]),
            "embedding": _embedding_loss(layer.embeddings_BND, matches, asked),
        }


def ovdetr_loss(settings: OvDetrSettings) -> OvDetrLoss:
    """The loss with the constants of the settings."""
    return OvDetrLoss(
        costs=costs_of(settings), weights=weights_of(settings), focal=focal_of(settings),
        embedding=settings.weight_embedding,
    )  # fmt: skip


def _counted(asked: Sequence[Asked], predictions: int) -> Tensor:
    """1 for queries of a condition that is meant, 0 for those that fill the batch up (B, N)."""
    meant_BR = torch.stack([one.classes_R >= 0 for one in asked])
    return meant_BR.repeat_interleave(predictions // meant_BR.shape[1], dim=1).float()


def _embedding_loss(embeddings_BND: Tensor, matches: Sequence[Match], asked: Sequence[Asked]) -> Tensor:
    """Sum of squares between matched embeddings of unit length and the rows that they were asked by, as these are."""
    total = embeddings_BND.new_zeros((), dtype=torch.float32)
    for embeddings_ND, pair, one in zip(embeddings_BND, matches, asked, strict=True):
        queries = len(embeddings_ND) // len(one.classes_R)
        rows_MD = one.rows_RD[torch.div(pair.queries_M, queries, rounding_mode="floor")]
        mine_MD = F.normalize(embeddings_ND[pair.queries_M].float(), dim=-1)
        total = total + (mine_MD - rows_MD.float()).square().sum()
    return total
