"""ViLD: region embeddings distilled from CLIP's embeddings of crops."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.backbones.trunk import ClipReading
from clipself.detection.detectors.two_stage.crops import CropTeacher, embed_boxes
from clipself.detection.detectors.two_stage.fusion import cosine_logits
from clipself.detection.detectors.two_stage.model import BINS, RegionPass, TwoStage
from clipself.detection.detectors.two_stage.pixels import pixels_of
from clipself.detection.detectors.vild.settings import ViLDSettings
from clipself.engine.step import Step
from clipself.layers.region_heads import EmbeddingHead


class ViLD(TwoStage):
    """Source: ViLD (arXiv:2104.13921), Sec. 3.3, text and image branch on one embedding, weight .5, L1.

    Classes by cosine with texts at temperature 100 and a learned background; at test the detector decides alone, since
    its embeddings have learned what CLIP says of regions. With `ensemble` (Sec. 3.4) the image branch is a head of its
    own, and its opinion takes the place of the frozen CLIP's in the fusion. Departures: the proposals are those of the
    moment instead of precomputed ones, and the backbone is the frozen dense CLIP instead of a ResNet that learns.
    """

    settings: ViLDSettings
    signed_embeddings = True

    def __init__(self, clip: DenseCLIP, settings: ViLDSettings, vocabulary: EmbeddedVocabulary) -> None:
        super().__init__(clip, settings, vocabulary)
        self.teacher = CropTeacher(clip, settings.crops_by)
        self.image_head = (
            EmbeddingHead(
                channels=settings.channels, bins=BINS, convs=settings.box_convs, layers=settings.box_layers,
                width=settings.box_width or clip.embed_dim, embed_dim=clip.embed_dim, norm=settings.norm,
            )
            if settings.ensemble
            else None
        )  # fmt: skip

    def extra_losses(self, seen: RegionPass, step: Step) -> dict[str, Tensor]:
        """L1 between unit embeddings of the best proposals and of their crops: for each image the mean over them."""
        del step
        most = self.settings.distill_regions
        boxes = [found.boxes[:most] for found in seen.proposals]
        wanted_RD = embed_boxes(
            self.teacher.clip, seen.batch.images_B3HW, boxes, pixels=pixels_of(self.settings, self.backbone.clip),
            enlarge=(1.0, 1.5),
        )  # fmt: skip
        mine_RD = F.normalize(self.read_images(seen.maps, boxes), dim=1)
        distance_R = (mine_RD - wanted_RD).abs().sum(1)
        total: Tensor = distance_R.sum() * 0
        for distances in torch.split(distance_R, [len(box) for box in boxes]):
            total = total + distances.sum() / max(1, len(distances))
        return {"distilled": self.settings.extra_weight * total}

    def read_images(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Embeddings (R, D) that learn what crops are, in float32."""
        if self.image_head is None:
            return self.embed_regions(maps, boxes)
        with torch.autocast(self.device.type, enabled=False):
            pooled = self.pool(maps, boxes, BINS)
        embeddings_RD: Tensor = self.image_head(pooled)
        return embeddings_RD.float()

    def clip_logits(self, features: ClipReading, proposals: Sequence[Tensor]) -> Tensor:
        """The image head's logits where there is one: it has learned what CLIP says."""
        if self.image_head is None:
            return super().clip_logits(features, proposals)
        *maps, _ = self.pyramid(self.taps(features.taps))
        return cosine_logits(self.read_images(maps, proposals), self.texts(), self.settings.temperature)
