"""The loss of CAT-Seg: every class of every pixel is a question of its own."""

from collections.abc import Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.choices import pick
from clipself.data.semantic_training import keep_classes
from clipself.engine.step import Step
from clipself.losses.class_maps import CLASS_MAP_LOSSES
from clipself.segmentation.catseg.model import CatSeg
from clipself.structures import SemanticBatch

TRAINING_POOLING: Final = 2
"""Averaging ahead of the class steps while CAT-Seg learns."""


class CatSegLoss:
    """Loss of CAT-Seg.

    Args:
        model: The model; its settings say which classes are looked at and what becomes of unlabelled pixels.
        names: Classes to learn.
        ignore_label: Unlabelled pixels.
    """

    def __init__(self, model: CatSeg, names: Sequence[str], *, ignore_label: int) -> None:
        self.bare, self.class_names, self.ignore_label = model, list(names), ignore_label
        self.settings = model.settings
        self.map_loss = pick(CLASS_MAP_LOSSES, self.settings.loss, what="loss of class maps")
        wanted = self.settings.classes_per_step
        self.classes_per_step = wanted if wanted is not None and wanted < len(self.class_names) else None
        self.texts_TPD: Tensor | None = None
        if self.settings.train_clip != "queries-values":  # else the text tower learns
            with torch.no_grad():
                self.texts_TPD = model.embed_names(names)

    def counts(self, batch: SemanticBatch) -> dict[str, Tensor | float]:
        """Pixels that count; and, where classes are drawn, how many of them each class has."""
        labelled = batch.labels_BHW != self.ignore_label
        pixels = float(labelled.numel() if self.settings.ignored == "negative" else labelled.sum())
        if self.classes_per_step is None:
            return {"pixels": pixels}
        held = batch.labels_BHW[labelled].bincount(minlength=len(self.class_names))
        return {"pixels": pixels, "class_pixels": held}

    def losses(self, model: nn.Module, batch: SemanticBatch, step: Step) -> Mapping[str, Tensor]:
        """The mean over the pixels of the step of the mean over the classes looked at."""
        chosen = self.choose_classes(step)
        labels = keep_classes(batch.labels_BHW, chosen, ignore_label=self.ignore_label)
        texts = self.texts_TPD[chosen] if self.texts_TPD is not None else [self.class_names[one] for one in chosen]
        logits = model(self.bare.prepare(batch.pixels_B3HW), texts, pooling=TRAINING_POOLING)
        size = (labels.shape[1], labels.shape[2])
        resized = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        total = self.map_loss(resized, labels, ignore_label=self.ignore_label, ignored=self.settings.ignored)
        return {"maps": total / step.totals["pixels"].clamp(min=1.0)}

    def choose_classes(self, step: Step) -> list[int]:
        """All classes; or those of the whole step, all processes included, and others by chance, ascending."""
        if self.classes_per_step is None:
            return list(range(len(self.class_names)))
        present = (step.totals["class_pixels"] > 0).cpu()
        others = (~present).nonzero().flatten()
        missing = max(0, self.classes_per_step - int(present.sum()))
        drawn = others[torch.randperm(len(others), generator=step.generator("classes"))[:missing]]
        return sorted([*present.nonzero().flatten().tolist(), *drawn.tolist()])
