"""What two-stage detectors learn from images whose classes are known, but not their boxes.

Source: Detic (arXiv:2201.02605), Sec. 3.2, for any detector that has proposals and compares regions with texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.data.jitter import Framing, SquareCanvas
from clipself.detection.detectors.two_stage.fusion import cosine_logits
from clipself.detection.protocol import Proposals
from clipself.engine.step import Step
from clipself.losses.captions import caption_loss
from clipself.losses.image_labels import WeakRegions, image_label_loss
from clipself.structures import DetectionBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLabelTerms:
    """How a detector learns from image labels.

    Attributes:
        vocabulary: The names of training and those of the labels behind them; what training may be told apart from is
            "base" in it: base classes and labels.
        rule: Row of `IMAGE_LABEL_RULES`.
        weight: Of the loss.
        proposals: Best proposals of an image that a label may choose from.
        image_box: Share of the image's sides of the box that stands for all of it, the last region; 0 for none.
        captions: Weight, beside the labels', of captions: the image's box should mean its own and no other of the step.
        caption_negatives: Weight of the others.
    """

    vocabulary: EmbeddedVocabulary
    rule: str = "max_size"
    weight: float = 0.1
    proposals: int = 128
    image_box: float = 1.0
    captions: float = 0.0
    caption_negatives: float = 0.125

    def to(self, device: torch.device | str) -> "ImageLabelTerms":
        """The same on another device."""
        return replace(self, vocabulary=self.vocabulary.to(device))


@runtime_checkable
class LearnsFromImageLabels(Protocol):
    """A detector that learns from batches whose boxes nobody knows (`DetectionBatch.image_labels`)."""

    def learn_image_labels(self, terms: ImageLabelTerms) -> None:
        """Is told ahead of training what the labels stand for."""

    def label_framing(self, *, share: float, scales: tuple[float, float], flip: float) -> Framing:
        """How it wants such pictures: `share` of the side that others have."""


class ImageLabelLearner:
    """What the two-stage detectors on a CLIP's pyramid need for it."""

    image_labels: ImageLabelTerms | None = None
    classes_compete = True
    """Whether its class loss is a softmax."""
    learns_captions = True

    def learn_image_labels(self: Any, terms: ImageLabelTerms) -> None:
        """Is told ahead of training what the labels stand for."""
        self.image_labels = terms.to(self.device)

    def label_framing(self: Any, *, share: float, scales: tuple[float, float], flip: float) -> SquareCanvas:
        """A smaller canvas, of whole patches."""
        patch = int(self.patch_size)
        side = max(1, round(self.settings.image_size * share / patch)) * patch
        framing: SquareCanvas = self.framing(scales=scales, flip=flip)
        return replace(framing, side=side)

    def label_losses(self: Any, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        """This batch's share of the mean over the step's images; proposals and boxes learn nothing.

        Raises:
            ValueError: Nobody has said what the labels stand for.
        """
        terms = self.image_labels
        if terms is None or batch.image_labels is None:
            raise ValueError("this detector has not been told what image labels stand for; call learn_image_labels")
        features = self.backbone(batch.images_B3HW, dense=False)
        *maps, extra = self.pyramid(self.taps(features.taps))
        proposals = self.proposer.propose(self.proposer([*maps, extra]), batch.sizes)
        boxes = weak_boxes(proposals, batch.sizes, most=terms.proposals, image_box=terms.image_box)
        embeddings_RD = self.embed_regions(maps, boxes)
        logits_RK = self.classify(embeddings_RD, terms.vocabulary)
        if self.classes_compete:
            logits_RK = logits_RK.masked_fill(~terms.vocabulary.base_K, float("-inf"))
        loss = image_label_terms(logits_RK, boxes, batch.image_labels, rule=terms.rule, softmax=self.classes_compete)
        if terms.captions:
            rows_ND, first = step_captions(self.clip, batch, step)
            logits_RN = self.compare_rows(embeddings_RD, rows_ND)
            loss = loss + terms.captions * caption_terms(logits_RN, boxes, first=first, others=terms.caption_negatives)
        losses = {"image_labels": terms.weight * loss, "rest": nothing_of(self)}
        return {name: share / step.totals["images"] for name, share in losses.items()}

    def compare_rows(self: Any, embeddings_RD: Tensor, rows_ND: Tensor) -> Tensor:
        """Logits (R, N) of any texts, without a background."""
        return cosine_logits(self.class_embeddings(embeddings_RD), rows_ND, self.factor)


def weak_boxes(
    proposals: Sequence[Proposals], sizes: Sequence[tuple[int, int]], *, most: int, image_box: float
) -> list[Tensor]:
    """The best proposals of each image, and the box of the image itself as the last one.

    Args:
        proposals: Of each image, best first, clipped to it.
        sizes: Height and width of each image's own pixels.
        most: Proposals that are kept.
        image_box: Share of the image's sides of its own box, which is centred; 0 adds none.
    """
    kept = []
    for found, (height, width) in zip(proposals, sizes, strict=True):
        boxes = found.boxes[:most]
        if image_box:
            near, far = (1 - image_box) / 2, (1 + image_box) / 2
            own = boxes.new_tensor([[width * near, height * near, width * far, height * far]])
            boxes = torch.cat([boxes, own])
        kept.append(boxes)
    return kept


def image_label_terms(
    logits_RK: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor], *, rule: str, softmax: bool
) -> Tensor:
    """The loss of each image, summed over the images.

    Args:
        logits_RK: Of the boxes of all images, the background last; columns that take no part may be -inf where classes
            compete.
        boxes: Of each image.
        labels: Columns of each image's labels.
        rule: Row of `IMAGE_LABEL_RULES`.
        softmax: Whether classes compete.
    """
    total: Tensor = logits_RK.new_zeros(())
    for logits, box, wanted in zip(torch.split(logits_RK, list(map(len, boxes))), boxes, labels, strict=True):
        regions = WeakRegions(logits_RK=logits, boxes_R4=box)
        total = total + image_label_loss(regions, wanted.tolist(), rule=rule, softmax=softmax)[0]
    return total


@torch.no_grad()
def step_captions(clip: DenseCLIP, batch: DetectionBatch, step: Step) -> tuple[Tensor, int]:
    """Embeddings of what all processes caption their micro-batch with (N, D), and the place of this batch's first.

    Raises:
        ValueError: The batch has no captions.
    """
    if batch.captions is None:
        raise ValueError("captions are wanted, but these pictures have none; pass a COCO captions file as image_labels")
    rows_BD = clip.encode_text(batch.captions).float()
    return step.world.gather(rows_BD), step.world.rank * len(rows_BD)


def caption_terms(logits_RN: Tensor, boxes: Sequence[Tensor], *, first: int, others: float) -> Tensor:
    """What captions teach the box of each image, its last one, summed over the images.

    Args:
        logits_RN: Of the boxes of all images, for each caption of the step.
        boxes: Of each image.
        first: Place of the first image's caption.
        others: Weight of other images' captions.
    """
    split = torch.split(logits_RN, list(map(len, boxes)))
    terms = [caption_loss(one[-1], first + place, negative_weight=others) for place, one in enumerate(split)]
    return torch.stack(terms).sum()


def nothing_of(module: Any) -> Tensor:
    """0, with a gradient of 0 for all that learns: processes wait for every gradient, whoever a loss speaks to."""
    return torch.stack([part.sum() * 0 for part in module.parameters() if part.requires_grad]).sum()
