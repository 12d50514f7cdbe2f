"""Detic's OV-LVIS network as a detector: it learns from boxes, masks and labels of images, and finds names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.data.detection import CocoDetection
from clipself.data.scale_crop import ScaleCrop
from clipself.data.short_side import ShortSide
from clipself.detection.detectors.detic.cascade import StagePass
from clipself.detection.detectors.detic.cascade_training import (
    StageTargets,
    Truth,
    label_boxes,
    mask_losses,
    region_losses,
    sample_boxes,
    train_stages,
)
from clipself.detection.detectors.detic.classifier import with_background
from clipself.detection.detectors.detic.network import STRIDES, CascadeNetwork
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.detectors.trunks import build_trunk
from clipself.detection.detectors.two_stage.image_labels import (
    ImageLabelTerms,
    image_label_terms,
    nothing_of,
    weak_boxes,
)
from clipself.detection.detectors.two_stage.pixels import pixels_of
from clipself.detection.protocol import Found, Proposals
from clipself.engine.optim import whole_group
from clipself.engine.step import Step
from clipself.losses.centernet import centre_targets
from clipself.losses.federated import federated_columns
from clipself.ops.boxes import clip_boxes
from clipself.structures import DetectionBatch
from clipself.text.templates import spoken_name

LABEL_SCALES: Final = (0.5, 1.5)
"""Widest jitter of pictures with labels alone (the published one)."""


class CenterNetDetector(CascadeNetwork):
    """Source: Detic (arXiv:2201.02605), Sec. 4.1 and released code.

    Departures: classes that training may not see take no part in the loss, where the released base training draws rare
    ones as wrong answers now and then; a federated draw is an image's own, where theirs is a process' own.

    Args:
        clip: Whose text tower made the vocabulary, and which the trunk "clip" reads pictures with.
        settings: Those of `centernet` and `cascade`, of masks, sampling and scoring.
        vocabulary: Names of training, with novel ones marked.
    """

    trained_SKD: Tensor
    """For each stage the texts of the names of training and the background's row, as they were: kept with the weights.

    A released checkpoint holds them so, in principle different ones.
    """

    def __init__(self, clip: DenseCLIP, settings: DeticSettings, vocabulary: EmbeddedVocabulary) -> None:
        trunk = build_trunk(settings.cascade.trunk, clip, strides=STRIDES)
        if settings.cascade.trunk != "clip":
            trunk.requires_grad_(True)  # all stages, whatever others freeze
        super().__init__(settings, vocabulary.texts_KD[:-1], trunk=trunk)
        self._clip = (clip.eval().requires_grad_(False),)  # a part of this module only where it is the trunk
        self.vocabulary = vocabulary
        self.trained_names = tuple(map(spoken_name, vocabulary.names))
        rows_KD = with_background(vocabulary.texts_KD[:-1].float())
        self.register_buffer("trained_SKD", rows_KD.repeat(settings.cascade.stages, 1, 1))
        self.register_load_state_dict_post_hook(_take_texts)  # type: ignore[no-untyped-call]
        self.image_labels: ImageLabelTerms | None = None
        self.draw_weights_K = vocabulary.base_K.float()
        """Weight of each class in a federated draw; 0 for those that take no part in the loss at all."""

    @property
    def clip(self) -> DenseCLIP:
        """The CLIP whose words it understands."""
        return self._clip[0]

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.trained_SKD.device

    def use(self, vocabulary: EmbeddedVocabulary) -> None:
        """Looks for other names from now on; those of training keep the texts that they were learned with."""
        self.vocabulary = vocabulary.to(self.device)
        place = {name: row for row, name in enumerate(self.trained_names)}
        known = [(row, place[name]) for row, name in enumerate(map(spoken_name, vocabulary.names)) if name in place]
        rows, trained = (torch.tensor(part, device=self.device) for part in zip(*known, (-1, -1), strict=True))
        for classifier, trained_KD in zip(self.cascade.classifiers, self.trained_SKD, strict=True):
            rows_KD = with_background(self.vocabulary.texts_KD[:-1].float())
            rows_KD[rows] = trained_KD[trained]
            classifier.take(rows_KD)

    def framing(self, *, scales: tuple[float, float] = (1.0, 1.0), flip: float = 0.0) -> ScaleCrop:
        """Views scaled and cut to squares of `image_size` for training, whole pictures by their short side else."""
        own, pixels = self.settings.cascade, pixels_of(self.settings, self.clip)
        whole = ShortSide(side=own.short_side, longest=own.longest, preprocess=pixels)
        return ScaleCrop(side=self.settings.image_size, preprocess=pixels, scales=scales, flip=flip, whole=whole.test)

    def label_framing(self, *, share: float, scales: tuple[float, float], flip: float) -> ScaleCrop:
        """Smaller squares, and a jitter within `LABEL_SCALES`: a picture without boxes must show what it is called."""
        within = max(scales[0], LABEL_SCALES[0]), min(scales[1], LABEL_SCALES[1])
        framing = self.framing(scales=within if within[0] <= within[1] else scales, flip=flip)
        return replace(framing, side=max(1, round(framing.side * share)))

    def prepare(self, data: CocoDetection) -> None:
        """Starts the trunk, and takes how many images each class has: the root is its weight in a federated draw."""
        self.trunk.start_from(self.settings.cascade.trunk_weights)
        counts_K = F.pad(data.images_of_classes(), (0, 1), value=1)
        self.draw_weights_K = counts_K.float().sqrt() * self.vocabulary.base_K.cpu()

    def learn_image_labels(self, terms: ImageLabelTerms) -> None:
        """Is told ahead of training what the labels stand for."""
        self.image_labels = terms.to(self.device)

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """One group: everything that learns decays, as published."""
        return whole_group(self, weight_decay=weight_decay)

    def counts(self, batch: DetectionBatch) -> Mapping[str, Tensor | float]:
        """Images, centres of boxes, and places that a box is regressed from."""
        targets = centre_targets(batch.boxes, self.grids(batch.images_B3HW), rule=self.proposer.rule)
        return {
            "images": float(len(batch.names)),
            "centres": float(len(targets.centres_P)),
            "places": targets.regressed_M.sum(),
        }

    # --- training

    def forward(self, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        """The losses: this batch's share of the step. Heat and boxes are means over the step's centres and places.

        An image's regions count alike whatever their number, and so do images.
        """
        maps = self.read_images(batch.images_B3HW)
        found = self.proposer(maps)
        if batch.image_labels is not None:
            clipped = self._clipped(self.proposer.propose(found), batch.sizes)
            losses = {"image_labels": self.image_label_loss(maps, clipped, batch), "rest": nothing_of(self)}
            return {name: loss / step.totals["images"] for name, loss in losses.items()}
        sums = self.proposer.loss_sums(found, self.proposer.targets(found, batch.boxes))
        divisors = {"centres": "centres", "rest": "centres", "distances": "places"}
        losses = {name: loss / step.totals[divisors[name]].clamp(min=1) for name, loss in sums.items()}
        regions = self.cascade_losses(maps, self.proposer.propose(found), batch, step)
        return losses | {name: loss / step.totals["images"] for name, loss in regions.items()}

    def cascade_losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Proposals], batch: DetectionBatch, step: Step
    ) -> dict[str, Tensor]:
        """Classes and offsets of all stages, and masks; summed over the images."""
        own, background = self.settings.cascade, len(self.vocabulary.names)
        truths = [Truth(boxes=boxes, labels=labels) for boxes, labels in zip(batch.boxes, batch.labels, strict=True)]
        first = [
            sample_boxes(
                one.boxes, truth, background=background, iou=own.ious[0], count=self.settings.roi_samples,
                generator=step.generator("regions", name),
            )
            for one, truth, name in zip(proposals, truths, batch.names, strict=True)
        ]  # fmt: skip
        losses = {"classes": torch.zeros((), device=self.device), "boxes": torch.zeros((), device=self.device)}
        passes = train_stages(self.cascade, maps, [one.boxes for one in first], batch.sizes)
        for stage, seen in enumerate(passes):
            targets = first if stage == 0 else [
                label_boxes(boxes, truth, background=background, iou=own.ious[stage])
                for boxes, truth in zip(seen.boxes, truths, strict=True)
            ]  # fmt: skip
            terms = region_losses(
                seen, targets, stds=own.stds(stage), weights_RC=self.compared_classes(stage, targets, batch, step)
            )
            for name, losses_R in zip(("classes", "boxes"), terms, strict=True):
                losses[name] = losses[name] + _means(losses_R, seen).sum()
        if self.cascade.mask_head is not None:
            if batch.masks is None:
                raise ValueError(
                    "the mask head needs masks, but these annotations hold none; use mask_convs=0 "
                    "(--detector.mask-convs 0)"
                )
            losses["masks"] = mask_losses(self.cascade, maps, first, batch.masks).sum()
        return losses

    def compared_classes(
        self, stage: int, targets: Sequence[StageTargets], batch: DetectionBatch, step: Step
    ) -> Tensor:
        """Weight (R, C) of each region and class: of all that take part, or of a draw for each image and stage."""
        columns, number = [], self.settings.federated_classes
        for one, name in zip(targets, batch.names, strict=True):
            if number:
                seen_K = federated_columns(
                    one.labels, weights_K=self.draw_weights_K, number=number,
                    generator=step.generator("classes", stage, name), background_counts=True,
                )  # fmt: skip
            else:
                seen_K = (self.draw_weights_K > 0).to(one.labels.device)
            columns.append(seen_K[:-1].float().expand(len(one.labels), -1))
        return torch.cat(columns)

    def image_label_loss(self, maps: Sequence[Tensor], proposals: Sequence[Proposals], batch: DetectionBatch) -> Tensor:
        """What labels of images teach each stage on its own boxes, summed over stages and images.

        Raises:
            ValueError: Nobody has said which names the labels stand for.
        """
        terms = self.image_labels
        if terms is None or batch.image_labels is None:
            raise ValueError("this detector has not been told of image labels; call learn_image_labels first")
        boxes = weak_boxes(proposals, batch.sizes, most=terms.proposals, image_box=terms.image_box)
        rows_KD = with_background(terms.vocabulary.texts_KD[:-1])
        total = torch.zeros((), device=self.device)
        for seen in train_stages(self.cascade, maps, boxes, batch.sizes, rows_KD=rows_KD):
            total = total + image_label_terms(
                seen.logits_RK, seen.boxes, batch.image_labels, rule=terms.rule, softmax=False
            )
        return terms.weight * total

    # --- prediction

    @torch.no_grad()
    def propose(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """Class-free boxes of each image, clipped to it."""
        return self._clipped(self.proposer.propose(self.proposer(self.read_images(images_B3HW))), sizes)

    @torch.no_grad()
    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Finds the vocabulary's names; `sizes` are height and width of each image's own pixels."""
        return self.find(images_B3HW, sizes)

    @staticmethod
    def _clipped(proposals: Sequence[Proposals], sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """Without those that lie outside the image."""
        done = []
        for found, size in zip(proposals, sizes, strict=True):
            boxes = clip_boxes(found.boxes, size=size)
            whole = (boxes[:, 2:] > boxes[:, :2]).all(1)
            done.append(Proposals(boxes=boxes[whole], scores=found.scores[whole]))
        return done


def _take_texts(module: CenterNetDetector, keys: object) -> None:
    del keys
    module.use(module.vocabulary)


def _means(losses_R: Tensor, seen: StagePass) -> Tensor:
    """For each image (B,) the mean over its boxes; 0 without any."""
    return torch.stack([part.sum() / max(1, len(part)) for part in torch.split(losses_R, seen.counts)])
