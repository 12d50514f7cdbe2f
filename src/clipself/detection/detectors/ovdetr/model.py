"""OV-DETR as a detector: its trunk, conditions, losses, and how classes are asked for at test."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from clipself.backbones.dense_clip import DenseCLIP
from clipself.data.detection import CocoDetection
from clipself.data.jitter import Framing, SquareCanvas
from clipself.data.short_side import ShortSide
from clipself.detection.detectors.ovdetr.conditions import Conditions, draw_conditions, present_classes, shuffled
from clipself.detection.detectors.ovdetr.crops import CropRows, embed_crops
from clipself.detection.detectors.ovdetr.learning import learning_groups
from clipself.detection.detectors.ovdetr.loss import Asked, OvDetrLoss
from clipself.detection.detectors.ovdetr.network import Encoded, OvDetr
from clipself.detection.detectors.ovdetr.postprocess import best_rows, select_boxes
from clipself.detection.detectors.ovdetr.settings import DeformableSettings, OvDetrSettings
from clipself.detection.detectors.trunks import build_trunk, pad_to_multiple, padding_of
from clipself.detection.detectors.two_stage.pixels import pixels_of
from clipself.detection.protocol import Found, Proposals
from clipself.detection.vocabulary import Vocabulary
from clipself.engine.step import Step
from clipself.losses.set_prediction import Focal, SetWeights, corners
from clipself.ops.boxes import normalize_boxes
from clipself.structures import DetectionBatch


class OvDetrDetector(nn.Module):
    """Source: OV-DETR (arXiv:2203.11876), released code.

    The CLIP is frozen: it speaks the names and embeds the crops, and is the trunk where `settings.trunk` says so.

    Args:
        clip: The CLIP.
        settings: Architecture and constants.
        vocabulary: Names of training, with novel ones marked.
    """

    settings: OvDetrSettings

    def __init__(self, clip: DenseCLIP, settings: OvDetrSettings, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.settings, self.vocabulary = settings, vocabulary
        self.trunk = build_trunk(settings.trunk, clip, taps=settings.taps)
        self.network = OvDetr(
            widths=self.trunk.widths, joint_dim=clip.embed_dim, channels=settings.channels, heads=settings.heads,
            encoder_layers=settings.encoder_layers, decoder_layers=settings.decoder_layers, hidden=settings.hidden,
            levels=settings.levels, encoder_points=settings.points, decoder_points=settings.points,
            queries=settings.queries, dropout=settings.dropout, two_stage=settings.two_stage, refine=settings.refine,
        )  # fmt: skip
        self.loss = loss_of(settings)
        self.crops: CropRows | None = None

    def train(self, mode: bool = True) -> "OvDetrDetector":
        """The CLIP stays in evaluation mode."""
        super().train(mode)
        self.clip.eval()
        return self

    def use(self, vocabulary: Vocabulary) -> None:
        """Looks for other names from now on."""
        self.vocabulary = vocabulary.to(self.clip.device)

    def framing(self, *, scales: tuple[float, float] = (1.0, 1.0), flip: float = 0.0) -> Framing:
        """Pictures by their short side, or on a square canvas where the settings give one."""
        return framing_of(self.settings, self.clip, scales=scales, flip=flip)

    def prepare(self, data: CocoDetection) -> None:
        """Takes the trunk's weights, and embeds the crops of annotated boxes."""
        settings = self.settings
        self.trunk.start_from(settings.trunk_weights)
        if settings.text_share < 1:
            self.crops = embed_crops(self.clip, data, least=settings.least_crop, most_of_class=settings.crops_of_class)

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """Everything decays; trunk and offsets learn at a tenth of the rate."""
        return learning_groups(self.network, self.trunk, weight_decay=weight_decay)

    # --- training

    def counts(self, batch: DetectionBatch) -> dict[str, Tensor | float]:
        """Boxes of each class, of which those count whose class is asked for."""
        counts_K = torch.zeros(len(self.vocabulary.names))
        for boxes, labels, name in zip(batch.boxes, batch.labels, batch.names, strict=True):
            if self.settings.conditions == "image":
                present = present_classes(boxes, labels, name=name, most=self.settings.most_conditions)
                labels = labels[torch.isin(labels, labels.new_tensor(present))]
            counts_K += torch.bincount(labels.cpu(), minlength=len(counts_K))
        return {"boxes_of_class": counts_K}

    def forward(self, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        """This batch's share of the losses, summed over the layers."""
        counts_K = step.totals["boxes_of_class"]
        conditions = self._conditions(batch, step)
        asked_classes = self._classes_of_step(step) if self.settings.conditions == "step" else None
        num_boxes = (counts_K if asked_classes is None else counts_K[asked_classes]).sum().clamp(min=1)
        images = pad_to_multiple(batch.images_B3HW, self.trunk.multiple)
        maps = self.trunk(images)
        with torch.autocast(images.device.type, enabled=False):  # places are read between cells
            encoded = self.network.encode([one.float() for one in maps], padding_of(images, batch.sizes))
            projected = [self.network.condition(one.rows_RD.float(), one.of_text_R) for one in conditions]
            layers = self.network.decode(encoded, torch.stack(projected))
        asked = [
            Asked(
                classes_R=one.classes_R, rows_RD=one.rows_RD, labels_N=labels,
                boxes_N4=box_convert(normalize_boxes(boxes.float(), size=size), "xyxy", "cxcywh"),
            )
            for one, boxes, labels, size in zip(conditions, batch.boxes, batch.labels, batch.sizes, strict=True)
        ]  # fmt: skip
        terms = self.loss.weigh(self.loss.terms(layers, encoded.proposals, asked, num_boxes=num_boxes))
        return summed_by_kind(terms)

    def _conditions(self, batch: DetectionBatch, step: Step) -> list[Conditions]:
        """For each image what it is asked for, all of one length."""
        settings, vocabulary = self.settings, self.vocabulary
        base = vocabulary.base_K[:-1].nonzero()[:, 0].tolist()
        told: dict[str, Any] = {
            "texts_KD": vocabulary.texts_KD.to(batch.images_B3HW.device), "crops": self.crops,
            "least": settings.least_conditions, "text_share": settings.text_share,
        }  # fmt: skip
        if settings.conditions == "step":
            one = draw_conditions(self._classes_of_step(step), base, generator=step.generator("conditions"), **told)
            return [one] * len(batch.names)
        drawn = [
            draw_conditions(
                present_classes(boxes, labels, name=name, most=settings.most_conditions), base,
                generator=step.generator("conditions", name), **told,
            )
            for boxes, labels, name in zip(batch.boxes, batch.labels, batch.names, strict=True)
        ]  # fmt: skip
        longest = max(len(one.classes_R) for one in drawn)
        return [one.filled_to(longest) for one in drawn]

    def _classes_of_step(self, step: Step) -> list[int]:
        """The classes of all images of a step, shuffled, as many as are asked for at once."""
        present = step.totals["boxes_of_class"].nonzero()[:, 0].tolist()
        return shuffled(present, step.generator("classes"))[: self.settings.most_conditions]

    # --- at test

    @torch.no_grad()
    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """The best boxes over all queries and names; names are asked for some at a time."""
        settings, vocabulary = self.settings, self.vocabulary
        encoded = self._encode(images_B3HW, sizes)
        texts_KD = vocabulary.texts_KD[:-1].to(images_B3HW.device).float()
        of_text_K = torch.tensor([name not in vocabulary.pictured for name in vocabulary.names])
        conditions_KC = self.network.condition(texts_KD, of_text_K)
        some = torch.split(conditions_KC, settings.classes_at_once or len(conditions_KC))
        last = [self.network.decode(encoded, part.expand(len(sizes), -1, -1))[-1] for part in some]
        logits_BN = torch.cat([one.logits_BN for one in last], dim=1)
        boxes_BN4 = torch.cat([one.boxes_BN4 for one in last], dim=1)
        return [
            select_boxes(
                logits_N, boxes_N4, queries=encoded.queries.contents_BQC.shape[1], size=size,
                most=settings.max_detections, threshold=settings.score_threshold,
            )
            for logits_N, boxes_N4, size in zip(logits_BN, boxes_BN4, sizes, strict=True)
        ]  # fmt: skip

    @torch.no_grad()
    def propose(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """The encoder's class-free boxes.

        Raises:
            ValueError: The queries are learned, so that there are none.
        """
        proposals = self._encode(images_B3HW, sizes).proposals
        if proposals is None:
            raise ValueError("queries that are learned have no class-free proposals; train with two_stage=True")
        done = []
        for logits_S, boxes_S4, size in zip(proposals.logits_BN, proposals.boxes_BN4, sizes, strict=True):
            scores, rows = best_rows(logits_S, most=self.settings.queries)
            limit = boxes_S4.new_tensor([size[1], size[0]] * 2)
            done.append(Proposals(boxes=corners(boxes_S4[rows]) * limit, scores=scores))
        return done

    def _encode(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> Encoded:
        images = pad_to_multiple(images_B3HW, self.trunk.multiple)
        return self.network.encode([one.float() for one in self.trunk(images)], padding_of(images, sizes))


def framing_of(settings: DeformableSettings, clip: DenseCLIP, *, scales: tuple[float, float], flip: float) -> Framing:
    """How a deformable DETR wants its pictures."""
    pixels = pixels_of(settings, clip)
    if settings.image_size is not None:
        return SquareCanvas(side=settings.image_size, preprocess=pixels, scales=scales, flip=flip)
    return ShortSide(
        side=settings.short_side, longest=settings.longest_side, preprocess=pixels, sides=settings.train_sides,
        flip=flip, crop=settings.crop,
    )  # fmt: skip


def loss_of(settings: OvDetrSettings) -> OvDetrLoss:
    """The loss with the constants of the settings."""
    return OvDetrLoss(
        costs=SetWeights(classes=settings.cost_classes, box=settings.cost_box, overlap=settings.cost_overlap),
        weights=SetWeights(classes=settings.weight_classes, box=settings.weight_box, overlap=settings.weight_overlap),
        embedding=settings.weight_embedding,
        focal=Focal(alpha=settings.focal_alpha, gamma=settings.focal_gamma),
    )


def summed_by_kind(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Terms of all layers -> one a kind, and one for the proposals."""
    kinds: dict[str, Tensor] = {}
    for name, value in terms.items():
        kind = "proposals" if name.endswith("_proposals") else name.split("_")[0]
        kinds[kind] = kinds[kind] + value if kind in kinds else value
    return kinds
