"""A detector on a deformable DETR, up to what its queries are asked for."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.data.detection import CocoDetection
from clipself.data.jitter import Framing
from clipself.detection.detectors.deformable.framing import framing_of
from clipself.detection.detectors.deformable.learning import learning_groups
from clipself.detection.detectors.deformable.network import DeformableDetr, Encoded
from clipself.detection.detectors.deformable.postprocess import best_rows
from clipself.detection.detectors.deformable.settings import DeformableSettings
from clipself.detection.detectors.trunks import build_trunk
from clipself.detection.protocol import Proposals
from clipself.losses.set_prediction import corners
from clipself.ops.boxes import normalize_boxes
from clipself.ops.padding import pad_to_multiple, padding_of
from clipself.structures import DetectionBatch


class DeformableDetector(nn.Module):
    """Trunk, network, proposals and rates; a detector adds losses and what is found.

    The CLIP is frozen: it speaks the names, and is the trunk where `settings.trunk` says so.

    Args:
        clip: The CLIP.
        settings: Architecture and constants.
        vocabulary: Names of training, with novel ones marked.
    """

    settings: Any
    network: DeformableDetr

    def __init__(self, clip: DenseCLIP, settings: DeformableSettings, vocabulary: EmbeddedVocabulary) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.settings, self.vocabulary = settings, vocabulary
        self.trunk = build_trunk(settings.trunk, clip, taps=settings.taps)

    def train(self, mode: bool = True) -> Self:
        """The CLIP stays in evaluation mode."""
        super().train(mode)
        self.clip.eval()
        return self

    def use(self, vocabulary: EmbeddedVocabulary) -> None:
        """Looks for other names from now on."""
        self.vocabulary = vocabulary.to(self.clip.device)

    def texts(self) -> Tensor:
        """Unit rows (K, D) of the names, without the background."""
        return self.vocabulary.texts_KD[:-1].to(self.clip.device).float()

    def base_classes(self) -> list[int]:
        """Labels that training may see."""
        labels: list[int] = self.vocabulary.base_K[:-1].nonzero()[:, 0].tolist()
        return labels

    def framing(self, *, scales: tuple[float, float] = (1.0, 1.0), flip: float = 0.0) -> Framing:
        """Pictures by their short side, or on a square canvas where the settings give one."""
        return framing_of(self.settings, self.clip, scales=scales, flip=flip)

    def prepare(self, data: CocoDetection) -> None:
        """Takes the trunk's weights."""
        del data
        self.trunk.start_from(self.settings.trunk_weights)

    def parameter_groups(self, *, weight_decay: float) -> list[dict[str, Any]]:
        """Everything decays; trunk and offsets learn at a tenth of the rate."""
        return learning_groups(self.network, self.trunk, weight_decay=weight_decay)

    def encode(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> Encoded:
        """All that does not depend on names, in float32: places are read between cells."""
        images = pad_to_multiple(images_B3HW, self.trunk.multiple)
        maps = self.trunk(images)
        with torch.autocast(images.device.type, enabled=False):
            return self.network.encode([one.float() for one in maps], padding_of(images, sizes))

    @torch.no_grad()
    def propose(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Proposals]:
        """The encoder's class-free boxes.

        Raises:
            ValueError: The queries are learned, so that there are none.
        """
        proposals = self.encode(images_B3HW, sizes).proposals
        if proposals is None:
            raise ValueError("queries that are learned have no class-free proposals; train with two_stage=True")
        done = []
        for logits_S, boxes_S4, size in zip(proposals.logits_BN, proposals.boxes_BN4, sizes, strict=True):
            scores, rows = best_rows(logits_S, most=self.settings.queries)
            limit = boxes_S4.new_tensor([size[1], size[0]] * 2)
            done.append(Proposals(boxes=corners(boxes_S4[rows]) * limit, scores=scores))
        return done


def truth_of(batch: DetectionBatch) -> list[Tensor]:
    """For each image its boxes as `cxcywh` (r, 4) in shares of the picture itself."""
    return [
        box_convert(normalize_boxes(boxes.float(), size=size), "xyxy", "cxcywh")
        for boxes, size in zip(batch.boxes, batch.sizes, strict=True)
    ]
