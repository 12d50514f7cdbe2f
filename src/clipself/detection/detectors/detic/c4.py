"""Detic's detector of OV-COCO: Faster R-CNN C4 whose classes are cosines with texts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.data.detection import CocoDetection
from clipself.data.preprocess import Preprocess
from clipself.data.short_side import ShortSide
from clipself.detection.detectors.detic.c4_trunk import C4Trunk, make_stage
from clipself.detection.detectors.detic.c4_weights import start_trunk
from clipself.detection.detectors.detic.classifier import ZeroShotClassifier, keep_best_class, with_background
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.detectors.two_stage.image_labels import (
    ImageLabelTerms,
    caption_terms,
    image_label_terms,
    nothing_of,
    step_captions,
    weak_boxes,
)
from clipself.detection.detectors.two_stage.postprocess import select_detections
from clipself.detection.detectors.two_stage.proposals_network import ProposalNetwork
from clipself.detection.detectors.two_stage.regions import RegionTargets, sample_regions
from clipself.detection.protocol import Found, Proposals
from clipself.engine.optim import whole_group
from clipself.engine.step import Step
from clipself.losses.region_classes import sigmoid_class_loss, softmax_class_loss
from clipself.ops.deltas import decode_boxes
from clipself.ops.levels import join_boxes
from clipself.structures import DetectionBatch

REGIONS_AT_ONCE: Final = 256
"""Regions that the last stage reads in one go at test."""


class C4Network(nn.Module):
    """ResNet -> one map -> proposals -> the ResNet's last stage on regions -> cosines with texts, class-free offsets.

    Source: Detic (arXiv:2201.02605), Sec. 4.4 and released code, on Faster R-CNN (arXiv:1506.01497).

    Args:
        settings: Those of `c4` and of proposals and scoring.
        texts_CD: Text embeddings of the classes, of any length.
    """

    def __init__(self, settings: DeticSettings, texts_CD: Tensor) -> None:
        super().__init__()
        own = settings.c4
        self.settings: DeticSettings = settings
        self.trunk, self.res5 = C4Trunk(own), make_stage(3, own)
        self.proposer = ProposalNetwork(
            settings, strides=(self.trunk.stride,), channels=self.trunk.width, convs=1,
            scales=[side / self.trunk.stride for side in own.anchor_sides], ratios=own.anchor_ratios,
        )  # fmt: skip
        width = own.width << 3
        self.classifier = ZeroShotClassifier(width, texts_CD, temperature=settings.temperature, bias=settings.bias)
        self.deltas = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
        x, y, wide, high = settings.box_weights
        self.stds = (1 / x, 1 / y, 1 / wide, 1 / high)

    def read_images(self, images_B3HW: Tensor) -> Tensor:
        """Normalised pictures, red first -> the map of stride 16."""
        features: Tensor = self.trunk(images_B3HW.flip(1) if self.settings.c4.blue_first else images_B3HW)
        return features

    def read_regions(self, features_BCYX: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Boxes of each image -> region features (R, C)."""
        with torch.autocast(features_BCYX.device.type, enabled=False):
            pooled: Tensor = roi_align(
                features_BCYX.float(), join_boxes(boxes), self.settings.c4.bins, 1 / self.trunk.stride,
                sampling_ratio=-1, aligned=True,
            )  # fmt: skip
        return self.res5(pooled).mean((2, 3))  # type: ignore[no-any-return]

    def find(self, features_1CYX: Tensor, boxes: Tensor, size: tuple[int, int]) -> Found:
        """What the proposals (R, 4) of one image are; `size` is height and width of its own pixels."""
        pieces = torch.split(boxes, REGIONS_AT_ONCE)
        regions_RC = torch.cat([self.read_regions(features_1CYX, [some]) for some in pieces])
        logits_RK = self.classifier(regions_RC)
        scores_RK = logits_RK.sigmoid() if self.settings.class_loss == "sigmoid" else logits_RK.softmax(1)
        if self.settings.one_class:
            scores_RK = F.pad(keep_best_class(scores_RK[:, :-1]), (0, 1))
        moved = decode_boxes(boxes, self.deltas(regions_RC).float(), stds=self.stds, size=size, limit_shrinking=False)
        return select_detections(moved, scores_RK, settings=self.settings)


class C4Detector(C4Network):
    """The network as a detector: it learns from boxes and from labels of images. The CLIP speaks the names alone.

    Args:
        clip: Whose text tower made the vocabulary.
        settings: Those of `c4` and of proposals, sampling and scoring.
        vocabulary: Names of training.
    """

    learns_captions = True

    def __init__(self, clip: DenseCLIP, settings: DeticSettings, vocabulary: EmbeddedVocabulary) -> None:
        super().__init__(settings, vocabulary.texts_KD[:-1])
        self._clip = (clip.eval().requires_grad_(False),)  # no part of this module
        self.vocabulary = vocabulary
        self.image_labels: ImageLabelTerms | None = None
        self.seen_K = vocabulary.base_K.clone()
        """Classes that boxes are told apart from: base ones that training has images of, and the background."""

    @property
    def clip(self) -> DenseCLIP:
        """The CLIP whose words it understands."""
        return self._clip[0]

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.classifier.linear.weight.device

    def use(self, vocabulary: EmbeddedVocabulary) -> None:
        """Looks for other names from now on."""
        self.vocabulary = vocabulary.to(self.device)
        self.classifier.use(self.vocabulary.texts_KD[:-1])

    def framing(self, *, scales: tuple[float, float] = (1.0, 1.0), flip: float = 0.0) -> ShortSide:
        """Short side of `c4.short_side`; the jitter of training draws from five sides of its range."""
        own = self.settings.c4
        low, high = scales
        sides = sorted({round(own.short_side * (low + (high - low) * step / 4)) for step in range(5)})
        return ShortSide(
            side=own.short_side, longest=own.longest, sides=tuple(sides), flip=flip,
            preprocess=Preprocess(mean=_of_one(own.pixel_mean), std=_of_one(own.pixel_std)),
        )  # fmt: skip

    def prepare(self, data: CocoDetection) -> None:
        """Starts the ResNet, and leaves classes without an image out of the loss, as published."""
        start_trunk(self.trunk, self.res5, self.settings.c4.trunk_weights)
        self.seen_K = self.vocabulary.base_K.cpu() & F.pad(data.images_of_classes() > 0, (0, 1), value=True)

    def learn_image_labels(self, terms: ImageLabelTerms) -> None:
        """Is told ahead of training what the labels stand for."""
        self.image_labels = terms.to(self.device)

    def label_framing(self, *, share: float, scales: tuple[float, float], flip: float) -> ShortSide:
        """Shorter sides."""
        framing = self.framing(scales=scales, flip=flip)
        short, longest, *sides = (
            max(1, round(length * share)) for length in (framing.side, framing.longest, *framing.sides)
        )
        return replace(framing, side=short, longest=longest, sides=tuple(sides))

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """One group: everything that learns decays, as published."""
        return whole_group(self, weight_decay=weight_decay)

    def counts(self, batch: DetectionBatch) -> Mapping[str, Tensor | float]:
        """Images count alike."""
        return {"images": float(len(batch.names))}

    # --- training

    def forward(self, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        """The losses: this batch's share of the mean over the step's images."""
        features = self.read_images(batch.images_B3HW)
        scored = self.proposer([features])
        limits = (self.settings.c4.proposals_before, self.settings.c4.proposals_after)
        proposals = self.proposer.propose(scored, batch.sizes, limits=limits)
        if batch.image_labels is not None:
            losses = {"image_labels": self.image_label_loss(features, proposals, batch, step), "rest": nothing_of(self)}
            return {name: loss / step.totals["images"] for name, loss in losses.items()}
        chance = {what: [step.generator(what, name) for name in batch.names] for what in ("anchors", "regions")}
        losses = self.proposer.losses(scored, batch.boxes, chance["anchors"])
        truth = zip(proposals, batch.boxes, batch.labels, chance["regions"], strict=True)
        targets = [
            sample_regions(
                found.boxes, boxes, labels, background=len(self.vocabulary.names), settings=self.settings,
                generator=generator, stds=self.stds, match=self.settings.region_match,
            )
            for found, boxes, labels, generator in truth
        ]  # fmt: skip
        regions_RC = self.read_regions(features, [target.boxes for target in targets])
        losses |= self.region_losses(targets, self.classifier(regions_RC), self.deltas(regions_RC).float())
        return {name: loss / step.totals["images"] for name, loss in losses.items()}

    def region_losses(
        self, targets: Sequence[RegionTargets], logits_RK: Tensor, deltas_R4: Tensor
    ) -> dict[str, Tensor]:
        """Classes of all sampled regions and offsets of the matched ones; both divided by the image's sample."""
        counts, seen_K = [len(target.labels) for target in targets], self.seen_K.to(logits_RK.device)
        classes, offsets = logits_RK.sum() * 0, deltas_R4.sum() * 0
        for target, logits, deltas in zip(
            targets, torch.split(logits_RK, counts), torch.split(deltas_R4, counts), strict=True
        ):
            if self.settings.class_loss == "sigmoid":
                loss = sigmoid_class_loss(logits, target.labels, weights_K=seen_K[:-1]).sum() / max(1, len(logits))
            else:
                loss = softmax_class_loss(logits, target.labels, weights_K=seen_K)
            classes = classes + loss
            offsets = offsets + (deltas[: len(target.deltas)] - target.deltas).abs().sum() / max(1, len(deltas))
        return {"classes": classes, "boxes": offsets}

    def image_label_loss(
        self, features: Tensor, proposals: Sequence[Proposals], batch: DetectionBatch, step: Step
    ) -> Tensor:
        """What labels and captions of images teach, summed over the images.

        Raises:
            ValueError: Nobody has said which names the labels stand for.
        """
        terms = self.image_labels
        if terms is None or batch.image_labels is None:
            raise ValueError("this detector has not been told of image labels; call learn_image_labels first")
        boxes = weak_boxes(proposals, batch.sizes, most=terms.proposals, image_box=terms.image_box)
        embeddings_RD = self.classifier.linear(self.read_regions(features, boxes))
        logits_RK = self.classifier.compare(embeddings_RD, with_background(terms.vocabulary.texts_KD[:-1]))
        softmax = self.settings.class_loss == "softmax"
        loss = image_label_terms(logits_RK, boxes, batch.image_labels, rule=terms.rule, softmax=softmax)
        if terms.captions:
            rows_ND, first = step_captions(self.clip, batch, step)
            logits_RN = self.classifier.compare(embeddings_RD, rows_ND)
            loss = loss + terms.captions * caption_terms(logits_RN, boxes, first=first, others=terms.caption_negatives)
        return terms.weight * loss

    # --- prediction

    @torch.no_grad()
    def propose(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """Class-free boxes of each image."""
        return self.proposer.propose(self.proposer([self.read_images(images_B3HW)]), sizes)

    @torch.no_grad()
    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Finds the vocabulary's names; `sizes` are height and width of each image's own pixels."""
        features = self.read_images(images_B3HW)
        proposals = self.proposer.propose(self.proposer([features]), sizes)
        return [
            self.find(features[[image]], found.boxes, size)
            for image, (found, size) in enumerate(zip(proposals, sizes, strict=True))
        ]


def _of_one(values: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = (value / 255 for value in values)
    return red, green, blue
