"""Detic's zero-shot classifier: a projection, then cosines with texts, and a background that scores nothing."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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

    def take(self, rows_KD: Tensor) -> None:
        """Replaces classes and background by rows (K, D) of a released checkpoint, whatever their lengths.

        Raises:
            ValueError: They are of another width.
        """
        if rows_KD.shape[1] != self.classes_KD.shape[1]:
            raise ValueError(f"the stored texts are {rows_KD.shape[1]} wide, the classifier {self.classes_KD.shape[1]}")
        self.classes_KD = rows_KD.to(self.classes_KD).contiguous()

    def forward(self, features_RC: Tensor, rows_KD: Tensor | None = None) -> Tensor:
        """Logits (R, classes + 1), the background last; or (R, K) of other rows, which get no background column.

        Args:
            features_RC: Region features.
            rows_KD: Texts, captions among them, in place of the classes.
        """
        return self.compare(self.linear(features_RC), rows_KD)

    def compare(self, embeddings_RD: Tensor, rows_KD: Tensor | None = None) -> Tensor:
        """The same from embeddings in the joint space; the classes' own rows are taken as they are stored."""
        embeddings_RD = embeddings_RD.float()
        if rows_KD is None:
            rows_KD = self.classes_KD
        elif self.normalise:
            rows_KD = F.normalize(rows_KD.float(), dim=1)
        if self.normalise:
            embeddings_RD = F.normalize(embeddings_RD, dim=-1) * self.temperature
        with torch.autocast(embeddings_RD.device.type, enabled=False):
            logits_RK = embeddings_RD @ rows_KD.to(embeddings_RD).mT
        return logits_RK if self.bias is None else logits_RK + self.bias


def keep_best_class(scores_RC: Tensor) -> Tensor:
    """One class a proposal: all scores of a row below its largest become 0.

    Source: Detic, released demo. The background must not be among the columns.
    """
    best_R1 = scores_RC.amax(1, keepdim=True) if scores_RC.shape[1] else scores_RC
    return torch.where(scores_RC >= best_R1, scores_RC, 0.0)
