"""RO-ViT's detector: a transformer with windows, a pyramid, proposals by centreness, classes by cosine with texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.choices import pick
from clipself.data.detection import CocoDetection
from clipself.data.jitter import SquareCanvas
from clipself.detection.detectors.rovit.geometry import decode_regions, encode_regions, shrink_boxes
from clipself.detection.detectors.rovit.heads import CosineBoxHead
from clipself.detection.detectors.rovit.losses import class_loss, delta_loss
from clipself.detection.detectors.rovit.proposals import CentrenessProposals
from clipself.detection.detectors.rovit.scores import with_objectness
from clipself.detection.detectors.rovit.settings import RoVitSettings
from clipself.detection.detectors.rovit.trunks import ClipTrunk, DetectorVit, PlainTrunk
from clipself.detection.detectors.two_stage.fusion import cosine_logits, fuse_scores
from clipself.detection.detectors.two_stage.model import draws
from clipself.detection.detectors.two_stage.postprocess import select_detections
from clipself.detection.detectors.two_stage.regions import RegionTargets, draw_regions, mask_loss
from clipself.detection.protocol import Found, Proposals
from clipself.engine.optim import decay_groups
from clipself.engine.step import Step
from clipself.layers.pyramid import PlainPyramid
from clipself.layers.region_heads import MaskHead
from clipself.ops.boxes import clip_boxes
from clipself.ops.cell_crops import crop_levels, crop_means
from clipself.ops.patches import require_whole
from clipself.structures import DetectionBatch

LEVELS: Final = (2, 5)
BINS, MASK_BINS = 7, 14
"""Side of the cropped regions of the box head and of the mask head."""
NATIVE: Final = 16.0
"""Patch of the published transformer, in pixels, by which levels are counted: one of 14 makes every stride 7/8."""

VITS: Final[Mapping[str, Callable[[DenseCLIP, RoVitSettings], DetectorVit]]] = {"clip": ClipTrunk, "plain": PlainTrunk}
"""`RoVitSettings.vit` -> what the detector stands on."""


class RoVit(nn.Module):
    """Source: RO-ViT (arXiv:2305.07011) and CFM-ViT (arXiv:2309.00775), by the code of DITO (arXiv:2310.00161).

    Args:
        clip: Whose text tower speaks the names, and whose transformer it stands on where `vit` is "clip".
        settings: Architecture and constants.
        vocabulary: Names of training, with novel ones marked.

    Raises:
        ValueError: The canvas cuts a patch or a window, or a plain transformer is not as wide as the texts.
    """

    def __init__(self, clip: DenseCLIP, settings: RoVitSettings, vocabulary: EmbeddedVocabulary) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.settings, self.vocabulary = settings, vocabulary
        self.vit = pick(VITS, settings.vit, what="transformer")(clip, settings)
        unit = f"the windows of {settings.windows} patches of {self.vit.patch} pixels"
        require_whole(settings.image_size, settings.windows * self.vit.patch, what="image_size", unit=unit)
        if settings.vit == "plain" and settings.fusion != "none" and settings.width != clip.embed_dim:
            raise ValueError(
                f"the second opinion of a plain transformer of width {settings.width} is compared with texts of "
                f"{clip.embed_dim} numbers; choose a CLIP whose texts are as wide, or fusion='none'"
            )
        strides = [self.vit.patch * 2.0 ** (level - 4) for level in range(LEVELS[0], LEVELS[1] + 1)]
        self.pyramid = PlainPyramid(width=self.vit.width, channels=settings.channels, levels=LEVELS)
        self.proposer = CentrenessProposals(settings, strides=strides)
        self.box_head = CosineBoxHead(
            channels=settings.channels, bins=BINS, convs=settings.box_convs, layers=settings.box_layers,
            width=settings.box_width, embed_dim=clip.embed_dim,
        )  # fmt: skip
        self.mask_head = (
            MaskHead(channels=settings.channels, convs=settings.mask_convs, norm="group")
            if settings.mask_convs
            else None
        )
        self.temperature = nn.Parameter(torch.ones(()))
        """Learned scale: the cosine is multiplied by `settings.temperature` and divided by it."""

    def train(self, mode: bool = True) -> "RoVit":
        """The CLIP stays in evaluation mode."""
        super().train(mode)
        self.clip.train(False)
        return self

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.temperature.device

    def use(self, vocabulary: EmbeddedVocabulary) -> None:
        """Looks for other names from now on."""
        self.vocabulary = vocabulary.to(self.device)

    def texts(self) -> Tensor:
        """Unit embeddings (K, D) of the names and the background."""
        if self.vocabulary.texts_KD.device != self.device:
            self.use(self.vocabulary)
        return self.vocabulary.texts_KD

    # --- training

    def framing(self, *, scales: tuple[float, float] = (1.0, 1.0), flip: float = 0.0) -> SquareCanvas:
        """Pictures on a square canvas, by large-scale jitter while training."""
        return SquareCanvas(side=self.settings.image_size, preprocess=self.vit.pixels, scales=scales, flip=flip)

    def prepare(self, data: CocoDetection) -> None:
        """Takes the weights that a plain transformer starts from."""
        del data
        self.vit.start_from(self.settings.trunk_weights)

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """Matrices of the heads decay; norms, biases and the transformer don't, and the latter learns more slowly."""
        trunk = self.vit.learning()
        own = {id(parameter) for parameter in trunk}
        heads = [parameter for parameter in self.parameters() if parameter.requires_grad and id(parameter) not in own]
        groups: list[dict[str, Any]] = decay_groups(heads, weight_decay=weight_decay)
        if trunk:
            groups.append({"params": trunk, "weight_decay": 0.0, "lr_scale": self.settings.trunk_rate})
        return groups

    def counts(self, batch: DetectionBatch) -> dict[str, Tensor | float]:
        """Images count alike: an image's own terms are means over its samples."""
        return {"images": float(len(batch.names))}

    def forward(self, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        """The losses: this batch's share of the step's."""
        maps = self.pyramid(self.vit(batch.images_B3HW).map_BCYX)
        scored = self.proposer(maps)
        with torch.autocast(self.device.type, enabled=False):
            losses = self.proposer.losses(scored, batch.boxes, batch.sizes, draws(step, "anchors", batch))
            proposals = self.proposer.propose(scored, batch.sizes, nms=self.settings.proposal_nms)
            targets = [
                draw_regions(
                    found.boxes, truth, labels, background=len(self.vocabulary.names), count=self.settings.roi_samples,
                    generator=generator, encode=encode_regions,
                )
                for found, truth, labels, generator in zip(
                    proposals, batch.boxes, batch.labels, draws(step, "regions", batch), strict=True
                )
            ]  # fmt: skip
            cropped = self.crop(maps, [target.boxes for target in targets], BINS)
        embeddings_RD, deltas_R4 = self.box_head(cropped)
        losses["classes"] = self._class_loss(embeddings_RD, targets)
        losses["boxes"] = self._delta_loss(deltas_R4.float(), targets, step)
        if self.mask_head is not None:
            losses["masks"] = mask_loss(
                self.mask_head, lambda boxes: self.crop(maps, boxes, MASK_BINS), targets, batch.masks
            )
        return {name: loss / step.totals["images"] for name, loss in losses.items()}

    def _class_loss(self, embeddings_RD: Tensor, targets: Sequence[RegionTargets]) -> Tensor:
        """For each image the mean over its regions, summed over the images."""
        logits_RK = self.classify(embeddings_RD)
        total: Tensor = logits_RK.sum() * 0
        for logits, target in zip(torch.split(logits_RK, [len(one.labels) for one in targets]), targets, strict=True):
            one = class_loss(
                logits, target.labels, seen_K=self.vocabulary.base_K.to(logits.device),
                background_weight=self.settings.background_weight,
            )  # fmt: skip
            total = total + one / max(1, len(target.labels))
        return total

    def _delta_loss(self, deltas_R4: Tensor, targets: Sequence[RegionTargets], step: Step) -> Tensor:
        """The mean over the coordinates of all matched regions of all processes, times this process' images."""
        split = torch.split(deltas_R4, [len(target.labels) for target in targets])
        mine = torch.cat([deltas[: len(target.deltas)] for deltas, target in zip(split, targets, strict=True)])
        total = delta_loss(mine, torch.cat([target.deltas for target in targets])) + deltas_R4.sum() * 0
        matched = step.world.sum(total.detach().new_tensor([float(len(mine)), float(len(targets))]))
        return total * matched[1] / (4 * matched[0]).clamp(min=1)

    # --- shared

    def crop(self, maps: Sequence[Tensor], boxes: Sequence[Tensor], bins: int) -> Tensor:
        """Regions of the pyramid (R, C, bins, bins) in float32."""
        scale = NATIVE / self.vit.patch
        return crop_levels([level.float() for level in maps], [box * scale for box in boxes], levels=LEVELS, bins=bins)

    def classify(self, embeddings_RD: Tensor) -> Tensor:
        """Logits (R, K) over the names and the background."""
        return cosine_logits(embeddings_RD, self.texts(), self.settings.temperature / self.temperature)

    # --- prediction

    @torch.no_grad()
    def propose(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """Class-free boxes of each image; near doubles are removed, as nothing follows that would."""
        maps = self.pyramid(self.vit(images_B3HW).map_BCYX)
        return self.proposer.propose(self.proposer(maps), sizes, nms=self.settings.proposal_nms)

    @torch.no_grad()
    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Finds the vocabulary's names, with mask logits (N, 28, 28) where there is a mask head."""
        seen = self.vit(images_B3HW, dense=self.settings.fusion != "none")
        maps = self.pyramid(seen.map_BCYX)
        proposals = self.proposer.propose(self.proposer(maps), sizes, nms=self.settings.proposal_test_nms)
        boxes = [found.boxes for found in proposals]
        embeddings_RD, deltas_R4 = self.box_head(self.crop(maps, boxes, BINS))
        logits_RK = self.classify(embeddings_RD)
        scores_RK = fuse_scores(
            logits_RK, self._second_opinion(seen.dense_BDYX, boxes, sizes, like=logits_RK), rule=self.settings.fusion,
            base_K=self.vocabulary.base_K, alpha=self.settings.alpha, beta=self.settings.beta,
        )  # fmt: skip
        objectness_R = torch.cat([found.scores for found in proposals])
        scores_RK = with_objectness(scores_RK, objectness_R, power=self.settings.objectness_power)
        counts = [len(box) for box in boxes]
        done = [
            select_detections(clip_boxes(decode_regions(box, deltas), size=size), scores, settings=self.settings)
            for box, scores, deltas, size in zip(
                boxes, torch.split(scores_RK, counts), torch.split(deltas_R4.float(), counts), sizes, strict=True
            )
        ]
        if self.mask_head is None:
            return done
        logits = self.mask_head(self.crop(maps, [found.boxes for found in done], MASK_BINS))
        split = torch.split(logits, [len(found.boxes) for found in done])
        return [replace(found, masks=masks) for found, masks in zip(done, split, strict=True)]

    def _second_opinion(
        self, dense_BDYX: Tensor | None, boxes: Sequence[Tensor], sizes: Sequence[tuple[int, int]], *, like: Tensor
    ) -> Tensor:
        """Logits (R, K) of the transformer's own embeddings of the regions."""
        if dense_BDYX is None:
            return like
        factor = self.settings.shrink
        looked_at = [
            shrink_boxes(box, factor=factor, size=size) if factor != 1 else box
            for box, size in zip(boxes, sizes, strict=True)
        ]
        regions_RD = crop_means(dense_BDYX.float(), looked_at, stride=self.vit.patch, bins=self.settings.clip_bins)
        return cosine_logits(regions_RD, self.texts(), self.settings.clip_temperature)
