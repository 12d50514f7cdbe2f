"""The two-stage detector that F-ViT and its relatives share: frozen CLIP, pyramid, proposals, regions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.activation import computation_hash
from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.backbones.trunk import ClipReading
from clipself.data.detection import CocoDetection
from clipself.data.jitter import SquareCanvas
from clipself.detection.detectors.two_stage.feature_cache import FeatureCache
from clipself.detection.detectors.two_stage.features import FrozenClip
from clipself.detection.detectors.two_stage.fusion import cosine_logits, fuse_scores
from clipself.detection.detectors.two_stage.image_labels import ImageLabelLearner
from clipself.detection.detectors.two_stage.pixels import pixels_of
from clipself.detection.detectors.two_stage.postprocess import select_detections
from clipself.detection.detectors.two_stage.proposals_network import ProposalNetwork
from clipself.detection.detectors.two_stage.regions import (
    STDS,
    RegionTargets,
    mask_loss,
    sample_regions,
)
from clipself.detection.detectors.two_stage.settings import TwoStageSettings
from clipself.detection.protocol import Found, Proposals
from clipself.engine.optim import whole_group
from clipself.engine.step import Step
from clipself.layers.pyramid import FeaturePyramid, pyramid_of
from clipself.layers.region_heads import MaskHead, RegionHead
from clipself.losses.federated import federated_columns
from clipself.losses.masked_cross_entropy import masked_cross_entropy
from clipself.ops.deltas import decode_boxes
from clipself.ops.levels import pool_levels
from clipself.ops.patches import require_whole
from clipself.structures import DetectionBatch

BINS, MASK_BINS = 7, 14
"""Side of the pooled regions of the box head and of the mask head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionPass:
    """What one pass has computed so far, for the losses that a method adds.

    Attributes:
        batch: Its images and boxes.
        maps: Pyramid, finest first, without the extra level.
        proposals: Of each image.
        targets: Sampled regions of each image.
        embeddings_RD: Region embeddings of all of them, of any length.
        features: Of the frozen backbone.
    """

    batch: DetectionBatch
    maps: Sequence[Tensor]
    proposals: Sequence[Proposals]
    targets: Sequence[RegionTargets]
    embeddings_RD: Tensor
    features: ClipReading


class TwoStage(ImageLabelLearner, nn.Module):
    """Frozen CLIP -> taps -> pyramid -> proposals -> regions -> classes by cosine with texts.

    A method is a subclass that replaces `fuse`, `class_embeddings` or `extra_losses`.

    Args:
        clip: The backbone; it is frozen and not part of what is saved.
        settings: Architecture and constants.
        vocabulary: Names of training, with novel ones marked.
    """

    signed_embeddings = False
    """Whether region embeddings may be negative; F-ViT takes them after a ReLU."""
    needs_dense = False
    """Whether training needs the dense map."""

    def __init__(self, clip: DenseCLIP, settings: TwoStageSettings, vocabulary: EmbeddedVocabulary) -> None:
        super().__init__()
        require_whole(settings.image_size, clip.patch_size, what="image_size")
        self.settings = settings
        self.backbone = FrozenClip(clip, taps=settings.taps, readout=settings.readout, prompted=bool(settings.prompt))
        self.patch_size = float(clip.patch_size)
        dim, norm = clip.embed_dim, settings.norm
        self.taps = pyramid_of([(stage.width, stage.stride) for stage in clip.trunk.stages], norm=norm)
        self.strides = self.taps.strides
        self.pyramid = FeaturePyramid(inputs=self.taps.widths, channels=settings.channels, norm=norm)
        self.proposer = ProposalNetwork(settings, strides=(*self.strides, 2 * self.strides[-1]))
        self.box_head = RegionHead(
            channels=settings.channels, bins=BINS, convs=settings.box_convs, layers=settings.box_layers,
            width=settings.box_width or dim, embed_dim=self.head_dim(dim), norm=norm, signed=self.signed_embeddings,
        )  # fmt: skip
        self.mask_head = (
            MaskHead(channels=settings.channels, convs=settings.mask_convs, norm=norm) if settings.mask_convs else None
        )
        temperature = torch.tensor(settings.temperature)
        self.temperature = nn.Parameter(temperature, requires_grad=settings.learn_temperature)
        self.background = nn.Parameter(vocabulary.texts_KD[-1].clone()) if settings.background == "learned" else None
        self.vocabulary = vocabulary
        self.cache: FeatureCache | None = None
        self.class_weights_K: Tensor | None = None
        """Weights (K,) of the draw of `settings.federated_classes`."""

    def head_dim(self, joint_dim: int) -> int:
        """Width of the box head's embedding."""
        return joint_dim

    def embed_regions(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """The box head's embeddings (R, D) of any boxes, in float32."""
        with torch.autocast(self.device.type, enabled=False):
            pooled = self.pool(maps, boxes, BINS)
        embeddings_RD: Tensor = self.box_head(pooled)[0]
        return embeddings_RD.float()

    @property
    def clip(self) -> DenseCLIP:
        """The frozen CLIP."""
        return self.backbone.clip

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.temperature.device

    @property
    def factor(self) -> Tensor | float:
        """Factor of the cosine: what was learned, or what the settings say where it is fixed."""
        return self.temperature if self.settings.learn_temperature else self.settings.temperature

    def use(self, vocabulary: EmbeddedVocabulary) -> None:
        """Looks for other names from now on."""
        self.vocabulary = vocabulary.to(self.device)

    def texts(self, vocabulary: EmbeddedVocabulary | None = None) -> Tensor:
        """Unit embeddings (K, D) of the names, its own if none are given, and of the background."""
        if self.vocabulary.texts_KD.device != self.device:
            self.use(self.vocabulary)
        texts_KD = (vocabulary or self.vocabulary).texts_KD
        if self.background is None:
            return texts_KD
        return torch.cat([texts_KD[:-1], F.normalize(self.background, dim=0)[None]])

    # --- training

    def framing(self, *, scales: tuple[float, float] = (1.0, 1.0), flip: float = 0.0) -> SquareCanvas:
        """Pictures on a square canvas, by large-scale jitter while training."""
        return SquareCanvas(
            side=self.settings.image_size, preprocess=pixels_of(self.settings, self.clip), scales=scales, flip=flip
        )

    def prepare(self, data: CocoDetection) -> None:
        """Takes the frequency of the classes, by which `federated_classes` are drawn, and the region prompt."""
        if self.settings.prompt is not None and self.backbone.regions is not None:
            self.backbone.regions.take_prompt(self.settings.prompt)
            self.settings = replace(self.settings, prompt=Path(self.settings.prompt).name)  # a card is passed on
        if self.settings.federated_classes:
            self.class_weights_K = F.pad(data.images_of_classes().float().sqrt(), (0, 1))

    def cache_features(self, folder: Path, *, identity: str, rows: int) -> None:
        """Keeps the frozen backbone's taps on disk; see `FeatureCache`.

        Raises:
            ValueError: The taps have several sizes.
        """
        if self.clip.trunk.is_pyramid:
            raise ValueError("feature_cache holds taps of one size, which a ResNet's stages are not; run without it")
        own = [computation_hash(self.clip, "image"), self.settings.pixels, str(self.backbone.tapped)]
        own.append(self.backbone.readout)
        self.cache = FeatureCache(folder, identity=" ".join([identity, *own]), rows=rows, backbone=self.backbone)

    def flush_features(self) -> None:
        """Writes what the cache still holds in memory."""
        if self.cache is not None:
            self.cache.flush()

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """One group: everything that learns decays, as published."""
        return whole_group(self, weight_decay=weight_decay)

    def counts(self, batch: DetectionBatch) -> dict[str, Tensor | float]:
        """Images count alike: an image's own terms are means over its samples."""
        return {"images": float(len(batch.names))}

    def forward(self, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        """The losses: this batch's share of the mean over the step's images."""
        if batch.image_labels is not None:
            return self.label_losses(batch, step)
        if self.cache is None:
            features: ClipReading = self.backbone(batch.images_B3HW, dense=self.needs_dense)
        else:
            features = self.cache(batch, batch.rows, dense=self.needs_dense)
        *maps, extra = self.pyramid(self.taps(features.taps))
        scored = self.proposer([*maps, extra])
        losses = self.proposer.losses(scored, batch.boxes, draws(step, "anchors", batch))
        proposals = self.proposer.propose(scored, batch.sizes)
        background = len(self.vocabulary.names)
        targets = [
            sample_regions(
                found.boxes, truth, labels, background=background, settings=self.settings, generator=generator
            )
            for found, truth, labels, generator in zip(
                proposals, batch.boxes, batch.labels, draws(step, "regions", batch), strict=True
            )
        ]
        with torch.autocast(self.device.type, enabled=False):
            pooled = self.pool(maps, [target.boxes for target in targets], BINS)
        embeddings_RD, deltas_R4 = self.box_head(pooled)
        seen_RK = self.compared_classes(targets, draws(step, "classes", batch))
        losses |= self.region_losses(targets, embeddings_RD.float(), deltas_R4.float(), seen_RK=seen_RK)
        if self.mask_head is not None:
            losses["masks"] = mask_loss(
                self.mask_head, lambda boxes: self.pool(maps, boxes, MASK_BINS), targets, batch.masks
            )
        seen = RegionPass(
            batch=batch, maps=maps, proposals=proposals, targets=targets, embeddings_RD=embeddings_RD.float(),
            features=features,
        )  # fmt: skip
        losses |= self.extra_losses(seen, step)
        return {name: loss / step.totals["images"] for name, loss in losses.items()}

    def region_losses(
        self, targets: Sequence[RegionTargets], embeddings_RD: Tensor, deltas_R4: Tensor, *, seen_RK: Tensor
    ) -> dict[str, Tensor]:
        """Classes of all sampled regions and offsets of the matched ones; both divided by the image's sample."""
        logits_RK = self.classify(embeddings_RD)
        losses_R = self.class_losses(logits_RK, torch.cat([target.labels for target in targets]), seen_RK)
        counts = [len(target.labels) for target in targets]
        classes, offsets = losses_R.sum() * 0, deltas_R4.sum() * 0
        for target, loss_r, deltas_r4 in zip(
            targets, torch.split(losses_R, counts), torch.split(deltas_R4, counts), strict=True
        ):
            count = max(1, len(loss_r))
            classes = classes + loss_r.sum() / count
            offsets = offsets + (deltas_r4[: len(target.deltas)] - target.deltas).abs().sum() / count
        return {"classes": classes, "boxes": offsets}

    def class_losses(self, logits_RK: Tensor, labels_R: Tensor, seen_RK: Tensor) -> Tensor:
        """Loss of each region (R,) over the classes that it may be told apart from."""
        weight = self.settings.background_weight
        return masked_cross_entropy(logits_RK, labels_R, seen_K=seen_RK, background_weight=weight)

    def compared_classes(self, targets: Sequence[RegionTargets], generators: Sequence[torch.Generator]) -> Tensor:
        """Columns (R, K) that each region's class loss sees: all base classes, or a draw of them for each image."""
        base_K, number = self.vocabulary.base_K, self.settings.federated_classes
        if not number:
            return base_K.expand(sum(len(target.labels) for target in targets), -1)
        if self.class_weights_K is None:
            raise ValueError("federated_classes needs class_weights_K; set it to the root of each class' images")
        weights_K = self.class_weights_K.to(base_K.device) * base_K
        columns = [
            federated_columns(target.labels, weights_K=weights_K, number=number, generator=generator)
            for target, generator in zip(targets, generators, strict=True)
        ]
        return torch.cat([one.expand(len(target.labels), -1) for one, target in zip(columns, targets, strict=True)])

    def extra_losses(self, seen: RegionPass, step: Step) -> dict[str, Tensor]:
        """What a method adds, summed over the images as the others are; nothing here."""
        del seen, step
        return {}

    # --- shared

    def pool(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], bins: int) -> Tensor:
        """Regions of the pyramid (R, C, bins, bins) in float32."""
        return pool_levels([level.float() for level in maps], boxes, strides=self.strides, output_size=bins)

    def class_embeddings(self, embeddings_RD: Tensor) -> Tensor:
        """What is compared with the texts."""
        return embeddings_RD

    def classify(self, embeddings_RD: Tensor, vocabulary: EmbeddedVocabulary | None = None) -> Tensor:
        """Logits (R, K) over the names, its own if none are given, and the background."""
        return cosine_logits(self.class_embeddings(embeddings_RD), self.texts(vocabulary), self.factor)

    # --- prediction

    @torch.no_grad()
    def propose(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """Class-free boxes of each image."""
        features = self.backbone(images_B3HW, dense=False)
        return self.proposer.propose(self.proposer(self.pyramid(self.taps(features.taps))), sizes)

    @torch.no_grad()
    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Finds the vocabulary's names.

        Args:
            images_B3HW: Normalised canvases.
            sizes: Height and width of each image's own pixels.

        Returns:
            For each image its detections, with mask logits (N, 28, 28) where there is a mask head.
        """
        features = self.backbone(images_B3HW, dense=True)
        *maps, extra = self.pyramid(self.taps(features.taps))
        proposals = [found.boxes for found in self.proposer.propose(self.proposer([*maps, extra]), sizes)]
        embeddings_RD, deltas_R4 = self.box_head(self.pool(maps, proposals, BINS))
        scores_RK = self.fuse(self.classify(embeddings_RD.float()), features, proposals)
        counts = [len(boxes) for boxes in proposals]
        pieces = zip(
            proposals, torch.split(scores_RK, counts), torch.split(deltas_R4.float(), counts), sizes, strict=True
        )
        done = [
            select_detections(decode_boxes(boxes, deltas, stds=STDS, size=size), scores, settings=self.settings)
            for boxes, scores, deltas, size in pieces
        ]
        if self.mask_head is None:
            return done
        logits = self.mask_head(self.pool(maps, [found.boxes for found in done], MASK_BINS))
        split = torch.split(logits, [len(found.boxes) for found in done])
        return [replace(found, masks=masks) for found, masks in zip(done, split, strict=True)]

    def fuse(self, logits_RK: Tensor, features: ClipReading, proposals: Sequence[Tensor]) -> Tensor:
        """Scores (R, K) from the detector's logits and the frozen CLIP's view of the same regions."""
        return fuse_scores(
            logits_RK, self.clip_logits(features, proposals), rule=self.settings.fusion,
            base_K=self.vocabulary.base_K, alpha=self.settings.alpha, beta=self.settings.beta,
        )  # fmt: skip

    def clip_logits(self, features: ClipReading, proposals: Sequence[Tensor]) -> Tensor:
        """The frozen CLIP's logits: cosines of the texts with its own embeddings of the regions."""
        regions_RD = self.backbone.embed_regions(features, proposals)
        return cosine_logits(regions_RD, self.texts(), self.settings.clip_temperature)


def draws(step: Step, what: str, batch: DetectionBatch) -> list[torch.Generator]:
    """Chance of each image, so that neither batch nor process changes a draw."""
    return [step.generator(what, name) for name in batch.names]
