"""The loss of CAT-Seg: every class of every pixel is a question of its own."""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.data.semantic_training import keep_classes
from clipself.losses.class_maps import Ignored, class_map_loss
from clipself.segmentation.catseg.model import CatSeg
from clipself.structures import SemanticBatch

TRAINING_POOLING = 2
"""Averaging ahead of the class steps while CAT-Seg learns."""


class CatSegMethod:
    """Loss of CAT-Seg: every class of every pixel is a question of its own.

    Args:
        model: The model.
        names: Classes to learn.
        ignore_label: Unlabelled pixels.
        ignored: What becomes of them.
        classes_per_step: Classes looked at in a step: those of the batch, filled up by chance; None for all.
        seed: Of the chance.
        texts_learn: Whether the text tower learns, so that names are embedded in every step.
    """

    def __init__(
        self,
        model: CatSeg,
        names: Sequence[str],
        *,
        ignore_label: int,
        ignored: Ignored = "masked",
        classes_per_step: int | None = None,
        seed: int = 0,
        texts_learn: bool = False,
    ) -> None:
        self.bare, self.class_names, self.ignore_label, self.ignored = model, list(names), ignore_label, ignored
        self.classes_per_step, self.seed = classes_per_step, seed
        self.step = 0
        """Micro-batches seen; a resumed run sets it."""
        self.texts_TPD: Tensor | None = None
        if not texts_learn:
            with torch.no_grad():
                self.texts_TPD = model.embed_names(names)

    def count(self, batch: SemanticBatch) -> int:
        """Pixels that count."""
        if self.ignored == "negative":
            return batch.labels_BHW.numel()
        return max(1, int((batch.labels_BHW != self.ignore_label).sum()))

    def images(self, batch: SemanticBatch) -> int:
        """Pictures."""
        return len(batch.names)

    def names(self, batch: SemanticBatch) -> Sequence[str]:
        """Where they came from."""
        return batch.names

    def loss_sum(self, model: nn.Module, batch: SemanticBatch) -> Tensor:
        """The sum over pixels of the mean over classes."""
        device = next(self.bare.parameters()).device
        batch = batch.to(device)
        chosen = self.choose_classes(batch.labels_BHW)
        labels = keep_classes(batch.labels_BHW, chosen, ignore_label=self.ignore_label)
        texts = self.texts_TPD[chosen] if self.texts_TPD is not None else [self.class_names[one] for one in chosen]
        logits = model(self.bare.prepare(batch.pixels_B3HW), texts, pooling=TRAINING_POOLING)
        size = (labels.shape[1], labels.shape[2])
        resized = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return class_map_loss(resized, labels, ignore_label=self.ignore_label, ignored=self.ignored, reduction="sum")

    def choose_classes(self, labels_BHW: Tensor) -> list[int]:
        """All classes; or those of the batch and others by chance, in ascending order."""
        self.step += 1
        total, wanted = len(self.class_names), self.classes_per_step
        if wanted is None or wanted >= total:
            return list(range(total))
        present = [int(one) for one in torch.unique(labels_BHW) if one != self.ignore_label]
        others = [one for one in range(total) if one not in set(present)]
        drawn = random.Random(f"{self.seed}/{self.step}").sample(others, max(0, wanted - len(present)))
        return sorted([*present, *drawn])
