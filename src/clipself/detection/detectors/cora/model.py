"""CORA: anchors choose their class, a DETR moves them to its objects, a frozen CLIP names what they hold."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.data.detection import CocoDetection
from clipself.data.preprocess import Preprocess
from clipself.data.short_side import ShortSide
from clipself.detection.detectors.cora.anchors import box_scores, class_chances, halves_of, select
from clipself.detection.detectors.cora.localiser import Localiser, Predictions
from clipself.detection.detectors.cora.matching import Objects, SetCriterion, count_pairs
from clipself.detection.detectors.cora.settings import CoraSettings
from clipself.detection.protocol import Found, Proposals
from clipself.detection.region_prompt.regions import ClipMaps, clip_regions
from clipself.engine.optim import whole_group
from clipself.engine.step import Step
from clipself.losses.set_prediction import corners
from clipself.ops.boxes import clip_boxes
from clipself.structures import DetectionBatch

PROPOSAL_NMS = 0.7
"""Overlap from which the lesser of two class-free boxes goes."""


class Cora(nn.Module):
    """Source: CORA (arXiv:2303.13076); on a transformer, regions are read from the dense map instead.

    Args:
        clip: The backbone; it is frozen and not part of what is saved.
        settings: Architecture and constants.
        vocabulary: Names of training, with novel ones marked.

    Raises:
        ValueError: A region prompt is asked for, and the CLIP has no attention pool.
    """

    settings: CoraSettings

    def __init__(self, clip: DenseCLIP, settings: CoraSettings, vocabulary: EmbeddedVocabulary) -> None:
        super().__init__()
        self.settings, self.vocabulary = settings, vocabulary
        self.regions = clip_regions(clip, readout=settings.readout)
        if settings.prompt is not None and self.regions.prompt is None:
            raise ValueError(
                f"prompt={settings.prompt!r} is of a CLIP ResNet's attention pool, and {clip.name} has none; leave it "
                "out (--detector.prompt None)"
            )
        self.localiser = Localiser(channels=self.regions.inner_channels, text_dim=clip.embed_dim, settings=settings)
        self.criterion = SetCriterion()

    @property
    def clip(self) -> DenseCLIP:
        """The frozen CLIP."""
        return self.regions.clip

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.localiser.objectness_embed.weight.device

    def use(self, vocabulary: EmbeddedVocabulary) -> None:
        """Looks for other names from now on."""
        self.vocabulary = vocabulary.to(self.device)

    def framing(self, *, scales: tuple[float, float] = (1.0, 1.0), flip: float = 0.0) -> ShortSide:
        """Pictures by their short side; their scale is drawn from `short_sides`, so that `scales` means nothing."""
        del scales
        settings, clip = self.settings, self.clip
        return ShortSide(
            side=settings.short_side, longest=settings.longest_side, sides=settings.short_sides, flip=flip,
            crop=settings.crop, preprocess=Preprocess(mean=clip.image_mean, std=clip.image_std),
        )  # fmt: skip

    def prepare(self, data: CocoDetection) -> None:
        """Takes the region prompt from its file: once training has begun, it is kept with the detector."""
        del data
        if self.settings.prompt is not None:
            self.regions.take_prompt(self.settings.prompt)
            self.settings = replace(self.settings, prompt=Path(self.settings.prompt).name)  # a card is passed on

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """One group: everything that learns decays, as released."""
        return whole_group(self, weight_decay=weight_decay)

    def counts(self, batch: DetectionBatch) -> dict[str, Tensor | float]:
        """Images; by matched anchors, which only the forward pass knows, each micro-batch is divided by itself."""
        return {"images": float(len(batch.names))}

    # --- training

    def forward(self, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        """The losses of all layers, divided by the matched anchors of the last one over all processes."""
        base_K = self.vocabulary.base_K[:-1].to(self.device)
        texts_CKD = self._texts(step)[:, base_K]
        maps = self.regions.read(batch.images_B3HW, batch.sizes)
        memory = self.localiser.encode(maps.inner)
        first = self.localiser.first_stage(memory)
        anchors_BQ4 = self.localiser.anchors(memory, first)
        copies, images = len(texts_CKD), len(batch.names)
        features = self._look(maps, anchors_BQ4).repeat(copies, 1, 1)
        texts_BKD = texts_CKD.repeat_interleave(images, dim=0)
        everyone_K = torch.ones(texts_BKD.shape[1], device=self.device)
        chances = class_chances(features, texts_BKD, temperature=self.settings.temperature, factor_K=everyone_K)
        classes_BQ = chances.argmax(-1)
        layers = self.localiser.decode(
            memory.repeated(copies), anchors_BQ4.repeat(copies, 1, 1), take_rows(texts_BKD, classes_BQ)
        )
        objects = self._objects(batch, base_K) * copies
        return self._losses(layers, first, objects, classes_BQ, batch, step)

    def _losses(
        self,
        layers: list[Predictions],
        first: Predictions | None,
        objects: list[Objects],
        classes_BQ: Tensor,
        batch: DetectionBatch,
        step: Step,
    ) -> dict[str, Tensor]:
        pairs = [self.criterion.match(one, objects, classes_BQ) for one in layers]
        terms = [self.criterion.losses(one, objects, found) for one, found in zip(layers, pairs, strict=True)]
        if first is not None:
            own = objects[: len(batch.names)]
            terms.append(self.criterion.losses(first, own, self.criterion.match_first_stage(first, own)))
        counted = torch.tensor([float(count_pairs(pairs[-1])), float(len(batch.names))], device=self.device)
        matched, images = step.world.sum(counted)
        share = images / step.totals["images"] / matched.clamp(min=1)
        losses = {name: torch.stack([one[name] for one in terms]).sum() * share for name in terms[0]}
        return self.criterion.weigh(losses)

    def _texts(self, step: Step) -> Tensor:
        """Names (1, K, D), or twice (2, K, D) with either half of them silent, by the chance of the step's number.

        The number alone decides whether, as released, so that all processes do the same.
        """
        if self.vocabulary.texts_KD.device != self.device:
            self.use(self.vocabulary)
        texts_KD = self.vocabulary.texts_KD[:-1]
        if random.Random(step.number).random() >= self.settings.split_classes:
            return texts_KD[None]
        base_K = self.vocabulary.base_K[:-1].cpu()
        heard = base_K.nonzero()[:, 0]
        silent_K = torch.zeros_like(base_K)
        silent_K[heard[torch.randperm(len(heard), generator=step.generator("class split"))[: len(heard) // 2]]] = True
        return halves_of(texts_KD, silent_K.to(self.device))

    def _objects(self, batch: DetectionBatch, base_K: Tensor) -> list[Objects]:
        """True boxes in shares of their pictures; their classes counted among the base names."""
        rank_K = base_K.cumsum(0) - 1
        made = []
        for boxes, labels, (rows, cols) in zip(batch.boxes, batch.labels, batch.sizes, strict=True):
            shares = boxes.float() / boxes.new_tensor([cols, rows, cols, rows], dtype=torch.float32)
            centres, sides = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
            made.append(Objects(boxes_N4=torch.cat([centres, sides], dim=1), labels_N=rank_K[labels]))
        return made

    def _look(self, maps: ClipMaps, boxes_BQ4: Tensor, *, fast: bool = True) -> Tensor:
        """Unit embeddings (B, Q, D) of boxes, `cxcywh`."""
        boxes = list(corners(boxes_BQ4.detach()))
        embed = self.regions.embed_fast if fast else self.regions.embed
        with torch.no_grad():
            return embed(maps, boxes).view(*boxes_BQ4.shape[:2], -1)

    # --- prediction

    def _localise(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> tuple[ClipMaps, Predictions]:
        settings, texts_KD = self.settings, self.vocabulary.texts_KD[:-1].to(self.device)
        maps = self.regions.read(images_B3HW, sizes)
        memory = self.localiser.encode(maps.inner)
        anchors_BQ4 = self.localiser.anchors(memory, self.localiser.first_stage(memory))
        factor_K = torch.where(self.vocabulary.base_K[:-1], 1.0, settings.novel_factor)
        chances = class_chances(
            self._look(maps, anchors_BQ4), texts_KD[None], temperature=settings.temperature, factor_K=factor_K
        )
        *_, last = self.localiser.decode(memory, anchors_BQ4, texts_KD[chances.argmax(-1)])
        return maps, last

    @torch.no_grad()
    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Finds the vocabulary's names; a box may be found under several."""
        settings = self.settings
        maps, last = self._localise(images_B3HW, sizes)
        scores_BQK = box_scores(
            self._look(maps, last.boxes_BQ4, fast=False), self.vocabulary.texts_KD[:-1].to(self.device), last.logits_BQ,
            temperature=settings.temperature, objectness=settings.objectness,
        )  # fmt: skip
        return [
            select(
                corners(boxes_Q4) * boxes_Q4.new_tensor([cols, rows, cols, rows]), scores_QK,
                threshold=settings.score_threshold, nms=settings.nms, most=settings.max_detections,
            )
            for boxes_Q4, scores_QK, (rows, cols) in zip(last.boxes_BQ4, scores_BQK, sizes, strict=True)
        ]  # fmt: skip

    @torch.no_grad()
    def propose(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """Boxes by objectness alone; anchors still look for the names in use."""
        _, last = self._localise(images_B3HW, sizes)
        made = []
        for boxes_Q4, logits_Q, size in zip(last.boxes_BQ4, last.logits_BQ, sizes, strict=True):
            boxes = clip_boxes(corners(boxes_Q4) * boxes_Q4.new_tensor([size[1], size[0]] * 2), size=size)
            scores = logits_Q.float().sigmoid()
            kept = nms(boxes.float(), scores, PROPOSAL_NMS)
            made.append(Proposals(boxes=boxes[kept], scores=scores[kept]))
        return made


def take_rows(texts_BKD: Tensor, classes_BQ: Tensor) -> Tensor:
    """Each picture's rows of its anchors' classes (B, Q, D)."""
    return texts_BKD.gather(1, classes_BQ[..., None].expand(-1, -1, texts_BKD.shape[-1]))
