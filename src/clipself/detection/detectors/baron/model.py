"""BARON-KD: regions as pseudo words, bags of neighbouring regions aligned with CLIP's view of the crop around them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.word_encoder import WordEncoder
from clipself.detection.detectors.baron.settings import BaronSettings
from clipself.detection.detectors.two_stage.crops import embed_boxes
from clipself.detection.detectors.two_stage.model import RegionPass, TwoStage
from clipself.detection.detectors.two_stage.pixels import pixels_of
from clipself.detection.vocabulary import Vocabulary
from clipself.losses.info_nce import info_nce
from clipself.ops.pooling import pool_boxes

BAG_TEMPERATURE, REGION_TEMPERATURE, REGION_WEIGHT = 30.0, 50.0, 0.1
"""Factors of the cosine between bags and between single regions; weight of the latter."""
LARGEST_BAG = 4
"""A region and up to three of its neighbours."""
LEAST_INSIDE = 2 / 3
"""Share of a neighbour that must lie in the image."""
WORD_DROP = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Bags:
    """Bags of all images of a batch.

    Attributes:
        boxes: For each image the boxes of its bags (r, 4), bag after bag.
        around: For each image the box around each bag (b, 4).
        sizes: Boxes of each bag of the batch.
        images: Image of each bag.
    """

    boxes: list[Tensor]
    around: list[Tensor]
    sizes: list[int]
    images: list[int]


class BaronKD(TwoStage):
    """Source: BARON (arXiv:2302.13996), knowledge distillation variant, from the paper's description.

    A region's embedding is a few vectors in word-embedding space; the frozen text tower turns them into a class
    embedding. The words of a bag, one after another, are a sentence that should mean what CLIP sees in the crop around
    the bag. Departures: bags are proposals of the moment with random neighbours, negatives are those of the batch and
    not of a queue, single regions are contrasted with RoIAlign of CLIP's dense map, and the backbone is frozen.
    """

    settings: BaronSettings
    signed_embeddings = True
    needs_dense = True

    def __init__(self, clip: DenseCLIP, settings: BaronSettings, vocabulary: Vocabulary) -> None:
        self._word_width = WordEncoder(clip).width
        super().__init__(clip, settings, vocabulary)
        self.encoder = WordEncoder(clip)
        self.place = nn.Linear(4, self._word_width)
        nn.init.zeros_(self.place.weight)
        nn.init.zeros_(self.place.bias)

    def head_dim(self, joint_dim: int) -> int:
        """All pseudo words of a region, one after another."""
        del joint_dim
        return self.settings.words * self._word_width

    def words_of(self, embeddings_RD: Tensor) -> Tensor:
        """Region embeddings -> pseudo words (R, L, C)."""
        return embeddings_RD.reshape(len(embeddings_RD), self.settings.words, self._word_width)

    def class_embeddings(self, embeddings_RD: Tensor) -> Tensor:
        """The text tower's reading of each region's words."""
        return self.encoder(self.words_of(embeddings_RD))  # type: ignore[no-any-return]

    def extra_losses(self, step: RegionPass) -> dict[str, Tensor]:
        """Bags against crops, single regions against the dense map; each divided by its number, times the images."""
        bags = draw_bags(step, most=self.settings.distill_regions, longest=self._longest_bag())
        embeddings_RD = self.embed_regions(step.maps, bags.boxes)
        words_RLC = self.words_of(embeddings_RD)
        generator = torch.Generator().manual_seed(sum(step.batch.seeds))
        # Every word but the first may be dropped, so that no region falls silent.
        kept_RL = torch.rand(words_RLC.shape[:2], generator=generator) >= WORD_DROP
        kept_RL[:, :1] = True
        singles_RD = self.encoder(words_RLC * kept_RL[..., None].to(words_RLC))
        student_ND = self._read_bags(words_RLC, bags)
        pixels = pixels_of(self.settings, self.backbone.clip)
        teacher_ND = embed_boxes(self.backbone.clip, step.batch.images_B3HW, bags.around, pixels=pixels)
        side = float(self.settings.image_size)
        assert step.features.dense is not None
        regions_RD = pool_boxes(step.features.dense.float(), [boxes / side for boxes in bags.boxes])
        images_N = torch.tensor(bags.images, device=student_ND.device)
        images_R = images_N.repeat_interleave(torch.tensor(bags.sizes, device=student_ND.device))
        count = len(step.batch.names)
        bag_loss = info_nce(student_ND, teacher_ND, temperature=BAG_TEMPERATURE, groups_N=images_N)
        region_loss = info_nce(singles_RD, regions_RD, temperature=REGION_TEMPERATURE, groups_N=images_R)
        weight = self.settings.extra_weight * count
        return {
            "bags": weight * bag_loss / max(1, len(student_ND)),
            "single_regions": weight * REGION_WEIGHT * region_loss / max(1, len(regions_RD)),
        }

    def _longest_bag(self) -> int:
        return max(1, min(LARGEST_BAG, (self.encoder.context - 2) // self.settings.words))

    def _read_bags(self, words_RLC: Tensor, bags: Bags) -> Tensor:
        """All words of a bag as one sentence, with the place of their box; bags of one size at once."""
        flat = torch.cat(bags.boxes) if bags.boxes else words_RLC.new_zeros(0, 4)
        around = torch.cat(bags.around)
        bag_of = torch.repeat_interleave(
            torch.arange(len(bags.sizes), device=flat.device), torch.tensor(bags.sizes, device=flat.device)
        )
        corner, sides = around[bag_of, :2], (around[bag_of, 2:] - around[bag_of, :2]).clamp(min=1)
        relative = torch.cat([(flat[:, :2] - corner) / sides, (flat[:, 2:] - corner) / sides], dim=1)
        placed_RLC = words_RLC + self.place(relative)[:, None]
        read = words_RLC.new_zeros(len(bags.sizes), self.backbone.clip.embed_dim)
        for size in sorted(set(bags.sizes)):
            chosen = torch.tensor([place for place, held in enumerate(bags.sizes) if held == size], device=flat.device)
            rows = torch.isin(bag_of, chosen)
            sentences = placed_RLC[rows].reshape(len(chosen), size * words_RLC.shape[1], -1)
            read = read.index_copy(0, chosen, self.encoder(sentences).to(read))
        return F.normalize(read, dim=1) if len(read) else read


def draw_bags(step: RegionPass, *, most: int, longest: int) -> Bags:
    """Bags around the best proposals: each with neighbours of its own size that lie mostly in the image.

    Args:
        step: Proposals, sizes and seeds.
        most: Bags of an image.
        longest: Boxes of a bag.
    """
    boxes, around, sizes, images = [], [], [], []
    for image, (found, size, seed) in enumerate(zip(step.proposals, step.batch.sizes, step.batch.seeds, strict=True)):
        generator = torch.Generator().manual_seed(seed + 1)
        best = found.boxes[: 4 * most]
        seeds = best[torch.randperm(len(best), generator=generator)[:most].to(best.device)]
        own, enclosing = [], []
        for box in seeds:
            bag = torch.cat([box[None], neighbours(box, size=size, most=longest - 1, generator=generator)])
            own.append(bag)
            enclosing.append(torch.cat([bag[:, :2].amin(0), bag[:, 2:].amax(0)]))
            sizes.append(len(bag))
            images.append(image)
        boxes.append(torch.cat(own) if own else best.new_zeros(0, 4))
        around.append(torch.stack(enclosing) if enclosing else best.new_zeros(0, 4))
    return Bags(boxes=boxes, around=around, sizes=sizes, images=images)


def neighbours(box: Tensor, *, size: tuple[int, int], most: int, generator: torch.Generator) -> Tensor:
    """Some of the eight boxes around a box, of its size, clipped; those that lie mostly outside are left out."""
    width, height = box[2] - box[0], box[3] - box[1]
    steps = torch.tensor([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y], device=box.device)
    shift = torch.stack([steps[:, 0] * width, steps[:, 1] * height], dim=1)
    moved = box + torch.cat([shift, shift], dim=1)
    limit = moved.new_tensor([size[1], size[0]] * 2)
    clipped = moved.clamp(min=0).minimum(limit)
    areas = (clipped[:, 2:] - clipped[:, :2]).clamp(min=0).prod(1)
    inside = clipped[areas >= LEAST_INSIDE * width * height]
    return inside[torch.randperm(len(inside), generator=generator)[:most].to(box.device)]
