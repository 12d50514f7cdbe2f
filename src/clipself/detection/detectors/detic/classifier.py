"""Detic's zero-shot classifier: a projection, then cosines with texts, and a background that scores nothing."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.detection.detectors.two_stage.fusion import cosine_logits


def with_background(texts_CD: Tensor, *, normalise: bool = True) -> Tensor:
    """Rows of the classes and a last row of zeros (C + 1, D): the background's cosine is 0 with everything.

    Args:
        texts_CD: Text embeddings of any length.
        normalise: Whether they come to unit length.
    """
    rows_CD = F.normalize(texts_CD, dim=1) if normalise else texts_CD
    return F.pad(rows_CD, (0, 0, 0, 1))


class ZeroShotClassifier(nn.Module):
    """Source: Detic (arXiv:2201.02605), Sec. 4.1 and released code.

    Regions of any width -> the joint space -> unit length times a fixed temperature -> rows of texts. The rows do not
    learn and are replaced with the vocabulary.

    Args:
        width: Of the region features.
        texts_CD: Text embeddings of the classes, of any length (C, D).
        temperature: Factor of the cosine.
        bias: Start of one learned number that is added to every logit; none at 0.
        normalise: Whether regions and texts come to unit length; else their plain product is taken.
    """

    classes_KD: Tensor

    def __init__(
        self, width: int, texts_CD: Tensor, *, temperature: float = 50.0, bias: float = 0.0, normalise: bool = True
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(width, texts_CD.shape[1])
        self.temperature, self.normalise = temperature, normalise
        self.bias = nn.Parameter(torch.full((1,), bias)) if bias else None
        self.register_buffer("classes_KD", with_background(texts_CD.float(), normalise=normalise), persistent=False)

    def use(self, texts_CD: Tensor) -> None:
        """Replaces the classes; the background stays the last column."""
        self.classes_KD = with_background(texts_CD.to(self.classes_KD), normalise=self.normalise)

    def forward(self, features_RC: Tensor, rows_KD: Tensor | None = None) -> Tensor:
        """Logits (R, classes + 1), the background last; or (R, K) of other rows, which get no background column.

        Args:
            features_RC: Region features.
            rows_KD: Texts, captions among them, in place of the classes.
        """
        return self.compare(self.linear(features_RC), rows_KD)

    def compare(self, embeddings_RD: Tensor, rows_KD: Tensor | None = None) -> Tensor:
        """The same from embeddings in the joint space."""
        rows_KD = self.classes_KD if rows_KD is None else rows_KD
        if self.normalise:
            logits_RK = cosine_logits(embeddings_RD, rows_KD, self.temperature)
        else:
            logits_RK = embeddings_RD.float() @ rows_KD.to(embeddings_RD.device, torch.float32).mT
        return logits_RK if self.bias is None else logits_RK + self.bias


def keep_best_class(scores_RC: Tensor) -> Tensor:
    """One class a proposal: all scores of a row below its largest become 0.

    Source: Detic, released demo. The background must not be among the columns.
    """
    best_R1 = scores_RC.amax(1, keepdim=True) if scores_RC.shape[1] else scores_RC
    return torch.where(scores_RC >= best_R1, scores_RC, 0.0)
