"""A deformable DETR whose queries may look at class names."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.detection.detectors.deformable.network import DeformableDetr, Encoded


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptedSet:
    """What one layer predicts.

    Attributes:
        logits_BQK: Of each query for each name that was shown.
        boxes_BQ4: `cxcywh` in shares of the picture.
    """

    logits_BQK: Tensor
    boxes_BQ4: Tensor


class PromptedDetr(DeformableDetr):
    """Our reading of PromptOVD (arXiv:2303.14386): names are more keys of the decoder's self-attention.

    The number of queries does not depend on the number of names. A class is told by the cosine between what a query
    holds and the name, times a learned factor, on top of the query's own logit.

    Args:
        joint_dim: Width of the names' rows.
        channels: Width inside.
        temperature: Start of the learned factor.
        sizes: Other arguments of `DeformableDetr`.
    """

    def __init__(self, *, joint_dim: int, channels: int = 256, temperature: float = 10.0, **sizes: Any) -> None:
        super().__init__(joint_dim=joint_dim, channels=channels, **sizes)
        self.prompt = nn.Linear(joint_dim, channels)
        self.temperature = nn.Parameter(torch.tensor(temperature))
        nn.init.xavier_uniform_(self.prompt.weight)
        nn.init.zeros_(self.prompt.bias)

    def decode(self, encoded: Encoded, names_BKD: Tensor) -> list[PromptedSet]:
        """What each layer predicts of the names that it is shown, the last layer last.

        Args:
            encoded: See `encode`.
            names_BKD: Unit rows; each picture may be shown other names.
        """
        decoded = self.transformer.decode(
            encoded.queries, encoded.memory, head=self.boxes_of, refine=self.refine,
            prompts_BPC=self.prompt(names_BKD),
        )  # fmt: skip
        sets = []
        for index, one in enumerate(decoded):
            own_BQ1 = self.class_embed[self.head_of(index)](one.hidden_BQC)
            held_BQD = F.normalize(self.feature_align[self.head_of(index)](one.hidden_BQC), dim=-1)
            logits_BQK = own_BQ1 + self.temperature * held_BQD @ names_BKD.mT
            sets.append(PromptedSet(logits_BQK=logits_BQK, boxes_BQ4=one.boxes_BQ4))
        return sets
