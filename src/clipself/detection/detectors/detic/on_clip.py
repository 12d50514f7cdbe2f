"""Detic's classes and losses on the pyramid of a frozen CLIP."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.backbones.trunk import ClipReading
from clipself.detection.detectors.detic.classifier import keep_best_class, with_background
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.detectors.two_stage.fusion import FUSIONS, cosine_logits
from clipself.detection.detectors.two_stage.model import TwoStage
from clipself.losses.region_classes import sigmoid_class_loss


class DeticOnClip(TwoStage):
    """Source: Detic (arXiv:2201.02605): each class by itself, a background that scores nothing.

    Departures from the published detectors: the backbone is the frozen dense CLIP with the shared pyramid, proposals
    and box head, so that backbones can be compared; classes that training may not see take no part in the loss.

    Args:
        clip: The backbone.
        settings: Architecture and constants.
        vocabulary: Names of training, with novel ones marked.
    """

    settings: DeticSettings
    signed_embeddings = True

    def __init__(self, clip: DenseCLIP, settings: DeticSettings, vocabulary: EmbeddedVocabulary) -> None:
        super().__init__(clip, settings, vocabulary)
        self.classes_compete = settings.class_loss == "softmax"
        self.bias = nn.Parameter(torch.tensor(settings.bias)) if settings.bias else None

    def classify(self, embeddings_RD: Tensor, vocabulary: EmbeddedVocabulary | None = None) -> Tensor:
        """Logits (R, K) over the names and a background of zeros."""
        rows_KD = with_background(self.texts(vocabulary)[:-1])
        logits_RK = cosine_logits(self.class_embeddings(embeddings_RD), rows_KD, self.factor)
        return logits_RK if self.bias is None else logits_RK + self.bias

    def compare_rows(self, embeddings_RD: Tensor, rows_ND: Tensor) -> Tensor:
        """Logits (R, N) of any texts, without a background."""
        logits_RN: Tensor = super().compare_rows(embeddings_RD, rows_ND)
        return logits_RN if self.bias is None else logits_RN + self.bias

    def class_losses(self, logits_RK: Tensor, labels_R: Tensor, seen_RK: Tensor) -> Tensor:
        """Binary cross entropy of each class that takes part, summed; or the softmax of the other detectors."""
        if self.classes_compete:
            return super().class_losses(logits_RK, labels_R, seen_RK)
        return sigmoid_class_loss(logits_RK, labels_R, weights_K=seen_RK[:, :-1])

    def fuse(self, logits_RK: Tensor, features: ClipReading, proposals: list[Tensor]) -> Tensor:  # type: ignore[override]
        """Scores (R, K): the detector's own, unless the settings give CLIP a say."""
        if self.classes_compete:
            scores_RK = super().fuse(logits_RK, features, proposals)
        elif self.settings.fusion == "none":
            scores_RK = logits_RK.sigmoid()
        else:
            scores_RK = FUSIONS[self.settings.fusion](
                logits_RK.sigmoid(), self.clip_logits(features, proposals).softmax(1),
                base_K=self.vocabulary.base_K.to(logits_RK.device), alpha=self.settings.alpha, beta=self.settings.beta,
            )  # fmt: skip
        return F.pad(keep_best_class(scores_RK[:, :-1]), (0, 1)) if self.settings.one_class else scores_RK
