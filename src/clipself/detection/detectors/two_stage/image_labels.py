"""What two-stage detectors learn from images whose classes are known, but not their boxes.

Source: Detic (arXiv:2201.02605), Sec. 3.2, for any detector that has proposals and compares regions with texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from clipself.detection.protocol import Proposals
from clipself.detection.vocabulary import Vocabulary
from clipself.losses.image_labels import WeakRegions, image_label_loss


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLabelTerms:
    """How a detector learns from image labels.

    Attributes:
        vocabulary: The names of training and those of the labels behind them; what training may be told apart from is
            "base" in it: base classes and labels.
        rule: Row of `IMAGE_LABEL_RULES`.
        weight: Of the loss.
        proposals: Best proposals of an image that a label may choose from.
    """

    vocabulary: Vocabulary
    rule: str = "max_size"
    weight: float = 0.1
    proposals: int = 128

    def to(self, device: torch.device | str) -> "ImageLabelTerms":
        """The same on another device."""
        return replace(self, vocabulary=self.vocabulary.to(device))


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


def nothing_of(module: nn.Module) -> Tensor:
    """0, with a gradient of 0 for all that learns: processes wait for every gradient, whoever a loss speaks to."""
    return torch.stack([part.sum() * 0 for part in module.parameters() if part.requires_grad]).sum()
