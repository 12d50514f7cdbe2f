"""OWL-ViT as a detector: queries are texts, tokens answer them, the set loss says which should have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.backbones.trainable import freeze_unreached
from clipself.backbones.transformer import require_blocks
from clipself.data.detection import CocoDetection
from clipself.data.preprocess import Preprocess
from clipself.data.random_crop import RandomCrop
from clipself.detection.detectors.owl.heads import OwlHeads, to_canvas, unit
from clipself.detection.detectors.owl.network import OwlNetwork, cut_texts, fit_positions
from clipself.detection.detectors.owl.queries import fill_negatives, make_queries, merge_instances
from clipself.detection.detectors.owl.settings import OwlSettings
from clipself.detection.protocol import Found, Proposals
from clipself.engine.step import Step
from clipself.losses.owl import OwlConstants, OwlTargets, match_pictures, owl_shares
from clipself.losses.set_prediction import Focal, SetWeights
from clipself.ops.boxes import clip_boxes, normalize_boxes
from clipself.structures import DetectionBatch
from clipself.text.canonical import is_forbidden, prompted, training_templates
from clipself.text.templates import load_templates

TEXTS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One picture of a step: the sentences that it is asked, and what is right for its boxes."""

    sentences: tuple[str, ...]
    targets: OwlTargets


class Owl(OwlNetwork):
    """OWL-ViT's heads on any CLIP with a dense side.

    Where a tower learns, the detector has a CLIP of its own, whose position tables fit the canvas and the queries.

    Args:
        clip: The backbone.
        settings: Architecture and constants.
        vocabulary: Names of training.

    Raises:
        ValueError: The settings do not fit the backbone.
    """

    def __init__(self, clip: DenseCLIP, settings: OwlSettings, vocabulary: EmbeddedVocabulary) -> None:
        if settings.image_size % clip.patch_size:
            raise ValueError(
                f"image_size={settings.image_size} is no multiple of {clip.patch_size}, the patch of this CLIP"
            )
        dense = settings.features == "dense"
        if settings.towers != "none":
            clip = clip.copy()
            fit_positions(clip, side=settings.image_size)
        if settings.towers == "both":
            cut_texts(clip, length=settings.text_tokens)
        clip.eval().requires_grad_(False)
        if not dense and settings.merge not in ("drop", "drop-ln"):
            require_blocks(clip, f"merge={settings.merge!r}")
        heads = OwlHeads(
            channels=clip.embed_dim if dense else clip.trunk.width, embed_dim=clip.embed_dim, aligned=dense,
            merge="drop-ln" if dense else settings.merge, norm_eps=settings.norm_eps, normalize=settings.normalize,
            gelu=settings.gelu, box_bias=settings.box_bias, objectness=settings.objectness,
        ).to(clip.device)  # fmt: skip
        super().__init__(clip, heads, readout=settings.readout if dense else None)
        self.settings: Any = settings
        self.vocabulary = vocabulary
        self.frequency_K = torch.ones(len(vocabulary.names))
        self._rows: dict[str, Tensor] = {}
        self._queries_KD: Tensor | None = None
        self._let_learn()

    def framing(self, *, scales: tuple[float, float] = (1.0, 1.0), flip: float = 0.0) -> RandomCrop:
        """A random part of the picture on a square canvas, grey beside it."""
        settings = self.settings
        return RandomCrop(
            side=settings.image_size, preprocess=Preprocess(mean=self.clip.image_mean, std=self.clip.image_std),
            area=settings.crop_area, aspect=settings.crop_aspect, least_left=settings.least_left, scales=scales,
            flip=flip,
        )  # fmt: skip

    def prepare(self, data: CocoDetection) -> None:
        """Takes how many pictures hold each class: negatives are drawn by it."""
        self.frequency_K = data.images_of_classes().float()

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """The heads, and each tower that learns, at a rate of its own."""
        image, text = self._towers()
        parts = ((list(self.heads.parameters()), 1.0), (image, self.settings.image_lr_scale),
                 (text, self.settings.text_lr_scale))  # fmt: skip
        groups = []
        for parameters, scale in parts:
            learning = [parameter for parameter in parameters if parameter.requires_grad]
            if learning:
                groups.append({"params": learning, "weight_decay": weight_decay, "lr_scale": scale})
        return groups

    def counts(self, batch: DetectionBatch) -> Mapping[str, Tensor | float]:
        """Pictures: each is divided by its own labels and boxes, and the step is the mean over pictures."""
        return {"pictures": float(len(batch.names))}

    def use(self, vocabulary: EmbeddedVocabulary) -> None:
        """Looks for other names from now on."""
        self.vocabulary, self._queries_KD = vocabulary, None

    def train(self, mode: bool = True) -> "Owl":
        """What was embedded before is embedded anew: the text tower may have learnt since."""
        super().train(mode)
        self._queries_KD = None
        return self

    def forward(self, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        """Focal, L1 and GIoU terms of this batch's pictures; "objectness" with that head."""
        asked = [self._ask(batch, place, step) for place in range(len(batch))]
        unique = list(dict.fromkeys(["", *(text for one in asked for text in one.sentences)]))
        rows_SD, place = self._embed(unique), {text: row for row, text in enumerate(unique)}
        reading = self.read(batch.images_B3HW, dropped_BL=self._dropped(batch, step))
        most = max(len(one.sentences) for one in asked)
        index_BQ = torch.tensor(
            [[place[text] for text in one.sentences] + [0] * (most - len(one.sentences)) for one in asked],
            dtype=torch.long, device=rows_SD.device,
        )  # fmt: skip
        logits_BPQ = self.heads.logits(reading, rows_SD[index_BQ])
        logits = [each[:, : len(one.sentences)] for each, one in zip(logits_BPQ, asked, strict=True)]
        boxes, targets, constants = [*reading.boxes_BP4], [one.targets for one in asked], self._constants()
        matches = match_pictures(logits, boxes, targets, constants=constants)
        pictures = step.totals["pictures"]
        shares = owl_shares(logits, boxes, targets, constants=constants, images=pictures, matches=matches)
        # Every query has a gradient, if only of 0: many processes would wait for a text tower that nobody asked.
        shares["classes"] = shares["classes"] + 0.0 * rows_SD.sum()
        if reading.objectness_BP is not None:
            wanted_BP = torch.zeros_like(reading.objectness_BP)
            for row, found in zip(wanted_BP, matches, strict=True):
                row[found.queries_M] = 1.0
            each_BP = constants.focal.loss(reading.objectness_BP, wanted_BP)
            shares["objectness"] = (each_BP.sum(1) / wanted_BP.sum(1).clamp(min=1)).sum() / pictures
        return shares

    @torch.no_grad()
    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """Finds the vocabulary's names: the best pairs of token and name."""
        reading = self.read(images_B3HW)
        scores_BPK = self.heads.logits(reading, self.asked_names()[None]).sigmoid()
        return [
            self._best(scores_PK, self._in_picture(boxes_P4, images_B3HW, size))
            for scores_PK, boxes_P4, size in zip(scores_BPK, reading.boxes_BP4, sizes, strict=True)
        ]

    @torch.no_grad()
    def propose(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """All tokens' boxes by their objectness.

        Raises:
            ValueError: There is no objectness head.
        """
        if self.heads.objectness is None:
            raise ValueError(
                "this OWL-ViT looks for names and has no class-free proposals; train it with its objectness head "
                "(--detector.objectness)"
            )
        reading, proposals = self.read(images_B3HW), []
        assert reading.objectness_BP is not None
        for scores_P, boxes_P4, size in zip(reading.objectness_BP.sigmoid(), reading.boxes_BP4, sizes, strict=True):
            order = scores_P.argsort(descending=True, stable=True)
            boxes = self._in_picture(boxes_P4, images_B3HW, size)
            proposals.append(Proposals(boxes=boxes[order], scores=scores_P[order]))
        return proposals

    # --- queries

    def _ask(self, batch: DetectionBatch, place: int, step: Step) -> Asked:
        """Merged boxes, queries and targets of one picture; its chance follows from its name."""
        settings, names, file = self.settings, self.vocabulary.names, batch.names[place]
        labels = [int(label) for label in batch.labels[place]]
        usable = [row for row, label in enumerate(labels) if not self._left_out(names[label])]
        boxes, held = merge_instances(
            batch.boxes[place].cpu()[usable], [[names[labels[row]]] for row in usable],
            threshold=settings.merge_iou, generator=step.generator("merge", file),
        )  # fmt: skip
        made = make_queries(held, self._negatives(batch, place, labels, step), most=settings.queries)
        templates, generator = training_templates(), step.generator("prompts", file)
        asked = [text for text in made.queries[1:] if text]
        drawn = torch.randint(len(templates), (len(asked),), generator=generator).tolist()
        sentences = tuple(prompted(text, templates[one]) for text, one in zip(asked, drawn, strict=True))
        real = ~made.multi_hot_MQ[:, 0]  # an instance whose labels were all cut off is nobody's
        size = (batch.images_B3HW.shape[2], batch.images_B3HW.shape[3])
        centred: Tensor = box_convert(normalize_boxes(boxes[real], size=size), "xyxy", "cxcywh")
        device = batch.images_B3HW.device
        targets = OwlTargets(
            boxes_M4=centred.to(device), labels_MQ=made.multi_hot_MQ[real, 1 : 1 + len(asked)].to(device)
        )
        return Asked(sentences=sentences, targets=targets)

    def _negatives(self, batch: DetectionBatch, place: int, labels: Sequence[int], step: Step) -> list[str]:
        names, novel = self.vocabulary.names, self.vocabulary.is_novel
        given = batch.negatives[place].tolist() if batch.negatives else []
        allowed = [
            label
            for label, held_out in enumerate(novel)
            if not held_out and label not in labels and not self._left_out(names[label])
        ]
        drawn = fill_negatives(
            [label for label in given if label in allowed], allowed, self.frequency_K, least=self.settings.negatives,
            generator=step.generator("negatives", batch.names[place]),
        )  # fmt: skip
        return [names[label] for label in drawn]

    def _left_out(self, name: str) -> bool:
        return self.settings.leave_out_rare and is_forbidden(name)

    def _embed(self, sentences: Sequence[str]) -> Tensor:
        """Query embeddings (S, D); those of a frozen text tower are made once."""
        if self.settings.towers == "both":
            return self.embed_texts(sentences)
        new = [text for text in sentences if text not in self._rows]
        with torch.no_grad():
            for start in range(0, len(new), TEXTS_AT_ONCE):
                some = new[start : start + TEXTS_AT_ONCE]
                self._rows |= dict(zip(some, self.embed_texts(some).float(), strict=True))
        return torch.stack([self._rows[text] for text in sentences])

    def asked_names(self) -> Tensor:
        """One row a name: the mean over the sentences of the test."""
        if self._queries_KD is None:
            if self.clip.identity.text is None:
                self._queries_KD = self.vocabulary.texts_KD[:-1]
            else:
                templates = load_templates(self.settings.templates)
                filled = [prompted(name, template) for name in self.vocabulary.names for template in templates]
                parts = range(0, len(filled), TEXTS_AT_ONCE)
                rows = torch.cat([self.embed_texts(filled[start : start + TEXTS_AT_ONCE]) for start in parts])
                self._queries_KD = unit(rows.float()).reshape(-1, len(templates), rows.shape[1]).mean(1)
        return self._queries_KD

    # --- parts

    def _towers(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of the image tower, and of all else of the CLIP."""
        image = list(self.clip.trunk.tower.parameters())
        held = {id(parameter) for parameter in image}
        visual: Any = self.clip.clip.visual
        other = {id(parameter) for parameter in visual.parameters()} - held
        return image, [one for one in self.clip.clip.parameters() if id(one) not in held | other]

    def _let_learn(self) -> None:
        """Chooses the towers that learn; what no box depends on stays frozen."""
        image, text = self._towers()
        patch, chosen = self.clip.patch_size, self.settings.towers
        if chosen in ("image", "both"):
            for parameter in image:
                parameter.requires_grad_(True)
            reading = self.read(image[0].new_ones(1, 3, patch, 2 * patch))
            freeze_unreached(reading.boxes_BP4.sum() + reading.features_BPC.sum(), image)
        if chosen == "both":
            for parameter in text:
                parameter.requires_grad_(True)
            freeze_unreached(self.embed_texts(["a cat"]).sum(), text)

    def _dropped(self, batch: DetectionBatch, step: Step) -> Tensor | None:
        """Blocks that each picture goes past, (B, L): the chance rises from 0 to `layer_drop`."""
        if not self.settings.layer_drop or self.settings.towers == "none" or not self.training:
            return None
        depth = len(self.clip.trunk.parts)
        chance = torch.linspace(0, self.settings.layer_drop, depth)
        return torch.stack([torch.rand(depth, generator=step.generator("drop", name)) < chance for name in batch.names])

    def _constants(self) -> OwlConstants:
        settings = self.settings
        return OwlConstants(
            weights=SetWeights(classes=settings.class_weight, box=settings.box_weight, overlap=settings.overlap_weight),
            focal=Focal(alpha=settings.focal_alpha, gamma=settings.focal_gamma),
        )

    def _in_picture(self, boxes_P4: Tensor, images_B3HW: Tensor, size: tuple[int, int]) -> Tensor:
        canvas = (images_B3HW.shape[2], images_B3HW.shape[3])
        return clip_boxes(to_canvas(boxes_P4, canvas), size=size)

    def _best(self, scores_PK: Tensor, boxes_P4: Tensor) -> Found:
        """The best pairs of token and name, above the threshold and, where wanted, not suppressed."""
        settings, names = self.settings, scores_PK.shape[1]
        scores, order = scores_PK.flatten().sort(descending=True, stable=True)
        keep = scores > settings.score_threshold
        scores, order = scores[keep], order[keep]
        if settings.nms is not None:
            most = 10 * settings.max_detections
            scores, order = scores[:most], order[:most]
            left = batched_nms(boxes_P4[order // names], scores, order % names, settings.nms)
            scores, order = scores[left], order[left]
        scores, order = scores[: settings.max_detections], order[: settings.max_detections]
        return Found(boxes=boxes_P4[order // names], scores=scores, labels=order % names)
