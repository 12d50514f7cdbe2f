"""ViLD: region embeddings distilled from CLIP's embeddings of crops."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.detection.detectors.two_stage.crops import embed_boxes
from clipself.detection.detectors.two_stage.model import RegionPass, TwoStage
from clipself.detection.detectors.two_stage.pixels import pixels_of
from clipself.detection.detectors.vild.settings import ViLDSettings
from clipself.engine.step import Step


class ViLD(TwoStage):
    """Source: ViLD (arXiv:2104.13921), Sec. 3.3, text and image branch on one embedding, weight .5, L1.

    Classes by cosine with texts at temperature 100 and a learned background; at test the detector decides alone, since
    its embeddings have learned what CLIP says of regions. Departures: the proposals are those of the moment instead of
    precomputed ones, and the backbone is the frozen dense CLIP instead of a ResNet that learns.
    """

    settings: ViLDSettings
    signed_embeddings = True

    def extra_losses(self, seen: RegionPass, step: Step) -> dict[str, Tensor]:
        """L1 between unit embeddings of the best proposals and of their crops: for each image the mean over them."""
        del step
        most = self.settings.distill_regions
        boxes = [found.boxes[:most] for found in seen.proposals]
        wanted_RD = embed_boxes(
            self.backbone.clip, seen.batch.images_B3HW, boxes, pixels=pixels_of(self.settings, self.backbone.clip),
            enlarge=(1.0, 1.5),
        )  # fmt: skip
        mine_RD = F.normalize(self.embed_regions(seen.maps, boxes), dim=1)
        distance_R = (mine_RD - wanted_RD).abs().sum(1)
        total: Tensor = distance_R.sum() * 0
        for distances in torch.split(distance_R, [len(box) for box in boxes]):
            total = total + distances.sum() / max(1, len(distances))
        return {"distilled": self.settings.extra_weight * total}
