"""A segmenter in one file: a linear layer on the dense map, compared with the names; a line registers it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.engine.step import Step
from clipself.ops.patches import nearest_whole
from clipself.segmentation.learning import decay_apart, norms_of
from clipself.segmentation.segmenter import Inference, ReadingSegmenter, SegmenterModel
from clipself.segmentation.segmenters import SegmenterType
from clipself.segmentation.settings import SegmenterSettings
from clipself.structures import SemanticBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class ToySettings(SegmenterSettings):
    method: str = field(default="toy", init=False)
    factor: float = 20.0


class ToyModel(SegmenterModel):
    def __init__(self, clip: DenseCLIP, settings: ToySettings, *, crop: int) -> None:
        super().__init__()
        self.clip, self.settings = clip.copy().requires_grad_(False), settings
        self.linear = nn.Conv2d(clip.embed_dim, clip.embed_dim, 1)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        dense = self.clip.dense_map(images_B3HW)
        return F.normalize(dense + self.linear(dense), dim=1)


def embed(model: ToyModel, names: Sequence[str]) -> Tensor:
    text = embed_names(model.clip, names, templates="simple", wording="as-written")
    return text.rows_SD[text.starts]


class ToyLoss:
    def __init__(self, model: ToyModel, names: Sequence[str], *, ignore_label: int) -> None:
        self.bare, self.ignore_label, self.texts_KD = model, ignore_label, embed(model, names)

    def counts(self, batch: SemanticBatch) -> Mapping[str, Tensor | float]:
        return {"pixels": float((batch.labels_BHW != self.ignore_label).sum())}

    def losses(self, model: nn.Module, batch: SemanticBatch, step: Step) -> Mapping[str, Tensor]:
        dense = model(self.bare.normalize(batch.pixels_B3HW))
        logits = self.bare.settings.factor * torch.einsum("bdyx,kd->bkyx", dense, self.texts_KD)
        resized = F.interpolate(logits, size=batch.labels_BHW.shape[1:], mode="bilinear")
        total = F.cross_entropy(resized, batch.labels_BHW, ignore_index=self.ignore_label, reduction="sum")
        return {"entropy": total / step.totals["pixels"].clamp(min=1)}


class ToySegmenter(ReadingSegmenter[Tensor]):
    def __init__(self, model: ToyModel, names: Sequence[str], *, crop: int, how: Inference) -> None:
        self.model, self.side = model.eval(), how.shortest or crop
        super().__init__(names)

    def embed(self, names: Sequence[str]) -> None:
        self.texts_KD = embed(self.model, names)

    def read(self, image: Image.Image) -> Tensor:
        side = nearest_whole(self.side, self.model.clip.patch_size)
        dense: Tensor = self.model(self.model.clip.preprocess(image, size=(side, side))[None])
        return dense

    def compare(self, reading: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        cosine = torch.einsum("bdyx,kd->bkyx", reading, self.texts_KD)
        yield F.interpolate(cosine, size=size, mode="bilinear")[0]


def toy_groups(model: ToyModel, *, weight_decay: float) -> list[dict[str, Any]]:
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return decay_apart(learning, norms_of(model), weight_decay=weight_decay)


TOY = SegmenterType(settings=ToySettings, build=ToyModel, loss=ToyLoss, groups=toy_groups, segmenter=ToySegmenter)
