"""A detector of another kind than ours, whole in this file: queries decode the frozen dense map, boxes are a set.

Source of the idea: DETR (arXiv:2005.12872), with classes by cosine with texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert, generalized_box_iou

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.data.detection import CocoDetection
from clipself.data.jitter import SquareCanvas
from clipself.data.preprocess import Preprocess
from clipself.detection.detectors.settings import MethodSettings
from clipself.detection.protocol import Found, Proposals
from clipself.engine.step import Step
from clipself.layers.sine_positions import sine_positions
from clipself.losses.assignment import match
from clipself.structures import DetectionBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class ToyDetrSettings(MethodSettings):
    """A few queries, two layers."""

    method: str = field(default="toy-detr", init=False)
    templates: str = "simple"
    image_size: int = 64
    queries: int = 10
    width: int = 32
    layers: int = 2
    temperature: float = 20.0
    noise: float = 0.1
    """Standard deviation of what is added to the queries while training."""
    score_threshold: float = 0.0


class ToyDetr(nn.Module):
    """Dense map -> decoder of queries -> one box and one embedding a query."""

    def __init__(self, clip: DenseCLIP, settings: ToyDetrSettings, vocabulary: EmbeddedVocabulary) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.settings: Any = settings
        self.vocabulary = vocabulary
        width = settings.width
        self.inward = nn.Linear(clip.embed_dim, width)
        self.queries = nn.Parameter(torch.randn(settings.queries, width))
        layer = nn.TransformerDecoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, settings.layers)
        self.boxes = nn.Linear(width, 4)
        self.embed = nn.Linear(width, clip.embed_dim)
        self.bias = nn.Parameter(torch.tensor(-3.0))

    def framing(self, *, scales: tuple[float, float] = (1.0, 1.0), flip: float = 0.0) -> SquareCanvas:
        pixels = Preprocess(mean=self.clip.image_mean, std=self.clip.image_std)
        return SquareCanvas(side=self.settings.image_size, preprocess=pixels, scales=scales, flip=flip)

    def prepare(self, data: CocoDetection) -> None:
        pass

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        slow = [self.queries]
        fast = [parameter for parameter in learning if parameter is not self.queries]
        return [
            {"params": fast, "weight_decay": weight_decay},
            {"params": slow, "weight_decay": 0.0, "lr_scale": 0.1},
        ]

    def counts(self, batch: DetectionBatch) -> dict[str, Tensor | float]:
        return {"boxes": float(sum(map(len, batch.boxes)))}

    def use(self, vocabulary: EmbeddedVocabulary) -> None:
        self.vocabulary = vocabulary

    def decode(self, images_B3HW: Tensor, noise_BQC: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Boxes (B, Q, 4) in shares of the canvas, `cxcywh`, and logits (B, Q, K) of the names."""
        with torch.no_grad():
            dense_BDYX = self.clip.dense_map(images_B3HW).float()
        memory = self.inward(dense_BDYX.flatten(2).mT)
        places = sine_positions((dense_BDYX.shape[2], dense_BDYX.shape[3]), self.settings.width, like=memory)
        queries = self.queries.expand(len(images_B3HW), -1, -1)
        queries = queries if noise_BQC is None else queries + noise_BQC.to(queries)
        hidden_BQC = self.decoder(queries, memory + places.flatten(1).mT)
        texts_KD = self.vocabulary.texts_KD[:-1].to(hidden_BQC)
        cosine_BQK = F.normalize(self.embed(hidden_BQC).float(), dim=-1) @ F.normalize(texts_KD.float(), dim=-1).mT
        return self.boxes(hidden_BQC).float().sigmoid(), self.settings.temperature * cosine_BQK + self.bias

    def forward(self, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        shape = (self.settings.queries, self.settings.width)
        noise = [torch.randn(shape, generator=step.generator("queries", name)) for name in batch.names]
        boxes_BQ4, logits_BQK = self.decode(batch.images_B3HW, self.settings.noise * torch.stack(noise))
        height, width = batch.images_B3HW.shape[2:]
        limit = boxes_BQ4.new_tensor([width, height] * 2)
        base_K = self.vocabulary.base_K[:-1].to(logits_BQK.device)
        losses = dict.fromkeys(("classes", "boxes", "overlap"), boxes_BQ4.sum() * 0)
        for boxes_Q4, logits_QK, truth, labels in zip(boxes_BQ4, logits_BQK, batch.boxes, batch.labels, strict=True):
            truth_N4 = box_convert(truth / limit, "xyxy", "cxcywh")
            cost_QN = 5 * torch.cdist(boxes_Q4.detach(), truth_N4, p=1) - 2 * logits_QK.detach()[:, labels].sigmoid()
            found = match(cost_QN)
            wanted_QK = torch.zeros_like(logits_QK)
            wanted_QK[found.queries_M, labels[found.targets_M]] = 1.0
            classes_QK = F.binary_cross_entropy_with_logits(logits_QK, wanted_QK, reduction="none")
            mine, theirs = boxes_Q4[found.queries_M], truth_N4[found.targets_M]
            corners = [box_convert(boxes, "cxcywh", "xyxy") for boxes in (mine, theirs)]
            losses["classes"] = losses["classes"] + classes_QK[:, base_K].sum()
            losses["boxes"] = losses["boxes"] + 5 * (mine - theirs).abs().sum()
            losses["overlap"] = losses["overlap"] + 2 * (1 - generalized_box_iou(*corners).diagonal()).sum()
        return {name: loss / step.totals["boxes"].clamp(min=1) for name, loss in losses.items()}

    @torch.no_grad()
    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        boxes_BQ4, logits_BQK = self.decode(images_B3HW)
        limit = boxes_BQ4.new_tensor([images_B3HW.shape[3], images_B3HW.shape[2]] * 2)
        done = []
        for boxes_Q4, scores_QK in zip(boxes_BQ4, logits_BQK.sigmoid(), strict=True):
            scores, order = scores_QK.flatten().sort(descending=True, stable=True)
            order = order[: int((scores > self.settings.score_threshold).sum())]
            queries, labels = order // scores_QK.shape[1], order % scores_QK.shape[1]
            boxes = box_convert(boxes_Q4, "cxcywh", "xyxy")[queries] * limit
            done.append(Found(boxes=boxes, scores=scores[: len(order)], labels=labels))
        return done

    def propose(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        raise ValueError("the toy detector has no class-free proposals")
