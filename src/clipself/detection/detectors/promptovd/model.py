"""PromptOVD in our reading, as a detector."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.mask_tokens import embed_box_tokens
from clipself.backbones.text import EmbeddedVocabulary
from clipself.backbones.transformer import require_blocks
from clipself.data.preprocess import Preprocess
from clipself.detection.detectors.deformable.classes import count_boxes, present_classes, shuffled
from clipself.detection.detectors.deformable.loss import costs_of, focal_of, summed_by_kind, weights_of
from clipself.detection.detectors.deformable.model import DeformableDetector, truth_of
from clipself.detection.detectors.promptovd.loss import PromptedLoss, Shown
from clipself.detection.detectors.promptovd.network import PromptedDetr
from clipself.detection.detectors.promptovd.regions import fuse, most_likely
from clipself.detection.detectors.promptovd.settings import PromptOvdSettings
from clipself.detection.detectors.two_stage.pixels import change_pixels, pixels_of
from clipself.detection.protocol import Found
from clipself.engine.step import Step
from clipself.losses.set_prediction import corners
from clipself.ops.padding import pad_to_multiple
from clipself.structures import DetectionBatch


class PromptOvd(DeformableDetector):
    """Our reading of PromptOVD (arXiv:2303.14386), of which no code is published.

    Names enter the decoder as prompts. At test the likeliest boxes are judged by the frozen CLIP, each by a class token
    that sees the patches of its box, all in one pass; both scores become one by a geometric mean.

    Args:
        clip: The CLIP; a transformer with a class token.
        settings: Architecture and constants.
        vocabulary: Names of training, with novel ones marked.

    Raises:
        ValueError: The CLIP has no class token.
    """

    settings: PromptOvdSettings
    network: PromptedDetr

    def __init__(self, clip: DenseCLIP, settings: PromptOvdSettings, vocabulary: EmbeddedVocabulary) -> None:
        super().__init__(clip, settings, vocabulary)
        require_blocks(clip, "judging boxes by class tokens of their own")
        self.network = PromptedDetr(
            widths=self.trunk.widths, joint_dim=clip.embed_dim, temperature=settings.temperature, **settings.sizes()
        )
        self.loss = PromptedLoss(costs=costs_of(settings), weights=weights_of(settings), focal=focal_of(settings))

    def counts(self, batch: DetectionBatch) -> dict[str, Tensor | float]:
        """Boxes whose class is shown."""
        counts_K = count_boxes(batch, classes=len(self.vocabulary.names), most=self.settings.prompts)
        return {"boxes": counts_K.sum()}

    def forward(self, batch: DetectionBatch, step: Step) -> dict[str, Tensor]:
        """This batch's share of the losses, summed over the layers."""
        classes_BK = torch.stack(
            [
                self._shown_classes(boxes, labels, name, step)
                for boxes, labels, name in zip(batch.boxes, batch.labels, batch.names, strict=True)
            ]
        ).to(batch.images_B3HW.device)
        encoded = self.encode(batch.images_B3HW, batch.sizes)
        with torch.autocast(batch.images_B3HW.device.type, enabled=False):
            layers = self.network.decode(encoded, self.texts()[classes_BK])
        shown = []
        for classes_K, labels, truth_N4 in zip(classes_BK, batch.labels, truth_of(batch), strict=True):
            places_NK = labels[:, None] == classes_K
            there = places_NK.any(1)
            shown.append(Shown(columns_N=places_NK[there].int().argmax(1), boxes_N4=truth_N4[there]))
        terms = self.loss.terms(layers, encoded.proposals, shown, num_boxes=step.totals["boxes"].clamp(min=1))
        return summed_by_kind(self.loss.weigh(terms))

    def _shown_classes(self, boxes: Tensor, labels: Tensor, name: str, step: Step) -> Tensor:
        """Labels of the classes that a picture is shown, as many for each picture."""
        base = self.base_classes()
        count = min(self.settings.prompts, len(base))
        present = present_classes(boxes, labels, name=name, most=count)
        others = shuffled([label for label in base if label not in present], step.generator("prompts", name))
        return torch.tensor([*present, *others[: count - len(present)]])

    @torch.no_grad()
    def detect(self, images_B3HW: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Found]:
        """The best pairs of a box and a name among the likeliest boxes; one box may hold several names."""
        settings, texts_KD = self.settings, self.texts()
        encoded = self.encode(images_B3HW, sizes)
        last = self.network.decode(encoded, texts_KD.expand(len(sizes), -1, -1))[-1]
        done = []
        for image_3HW, logits_QK, boxes_Q4, size in zip(
            images_B3HW, last.logits_BQK.sigmoid(), last.boxes_BQ4, sizes, strict=True
        ):
            kept = most_likely(logits_QK.amax(1), settings.rois)
            boxes_R4 = corners(boxes_Q4[kept].float()) * boxes_Q4.new_tensor([size[1], size[0]] * 2)
            scores_RK = logits_QK[kept].float()
            if settings.clip_share:
                judged_1RK = self.judge(image_3HW[None], boxes_R4[None], texts_KD)
                scores_RK = fuse(scores_RK, judged_1RK[0], clip_share=settings.clip_share)
            scores, order = scores_RK.flatten().sort(descending=True, stable=True)
            count = min(settings.max_detections, int((scores > settings.score_threshold).sum()))
            rows, labels = order[:count] // scores_RK.shape[1], order[:count] % scores_RK.shape[1]
            done.append(Found(boxes=boxes_R4[rows], scores=scores[:count], labels=labels))
        return done

    def judge(self, images_B3HW: Tensor, boxes_BR4: Tensor, texts_KD: Tensor) -> Tensor:
        """What the CLIP says of boxes in canvas pixels: scores (B, R, K) over the names, in one pass."""
        clip = self.clip
        own = Preprocess(mean=clip.image_mean, std=clip.image_std)
        images = change_pixels(images_B3HW, pixels_of(self.settings, clip), own)
        tokens_BRD = embed_box_tokens(clip, pad_to_multiple(images, clip.patch_size), boxes_BR4)
        cosine_BRK = F.normalize(tokens_BRD.float(), dim=-1) @ texts_KD.mT
        return (self.settings.clip_temperature * cosine_BRK).softmax(-1)
