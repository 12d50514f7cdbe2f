"""BARON-KD: regions as pseudo words, bags of neighbouring regions aligned with CLIP's view of the crop around them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import EmbeddedVocabulary
from clipself.backbones.word_encoder import WordEncoder
from clipself.detection.detectors.baron.settings import BaronSettings
from clipself.detection.detectors.two_stage.crops import CropTeacher, embed_boxes
from clipself.detection.detectors.two_stage.model import RegionPass, TwoStage
from clipself.detection.detectors.two_stage.pixels import pixels_of
from clipself.engine.distributed import World
from clipself.engine.step import Step, seed_of
from clipself.losses.info_nce import PairQueue, info_nce
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
        names: Of the images.
    """

    boxes: list[Tensor]
    around: list[Tensor]
    sizes: list[int]
    images: list[int]
    names: Sequence[str]

    def kept_RL(self, step: Step, words: int) -> Tensor:
        """Pseudo words that stay: every one but the first may be dropped, so that no region falls silent."""
        kept = [
            torch.rand(len(boxes), words, generator=step.generator("words", name)) >= WORD_DROP
            for boxes, name in zip(self.boxes, self.names, strict=True)
        ]
        kept_RL = torch.cat(kept)
        kept_RL[:, :1] = True
        return kept_RL


def contrast(
    left_ND: Tensor,
    right_ND: Tensor,
    images_N: Tensor,
    *,
    temperature: float,
    world: World,
    queue: PairQueue | None = None,
) -> Tensor:
    """Mean contrast of the pairs of all processes, of which this one answers for its part.

    Args:
        left_ND: Embeddings of this process.
        right_ND: Their partners.
        images_N: Number of the image of each, the same in all processes and steps; pairs of one image are no negatives.
        temperature: Factor of the cosine.
        world: This process among its peers.
        queue: Earlier pairs; takes these in.
    """
    left_ND, right_ND, images_N = world.gather(left_ND), world.gather(right_ND), world.gather(images_N)
    total = info_nce(left_ND, right_ND, temperature=temperature, groups_N=images_N, queue=queue)
    if queue is not None and queue.training:
        queue.push(left_ND, right_ND, images_N)
    return total / max(1, len(left_ND))


class BaronKD(TwoStage):
    """Source: BARON (arXiv:2302.13996), knowledge distillation variant, from the paper's description.

    A region's embedding is a few vectors in word-embedding space; the frozen text tower turns them into a class
    embedding. The words of a bag, one after another, are a sentence that should mean what CLIP sees in the crop around
    the bag. Negatives are those of the batch and of a queue of earlier ones. Departures: bags are proposals of the
    moment with random neighbours, single regions are contrasted with RoIAlign of CLIP's dense map, and the backbone is
    frozen.
    """

    settings: BaronSettings
    signed_embeddings = True
    needs_dense = True

    def __init__(self, clip: DenseCLIP, settings: BaronSettings, vocabulary: EmbeddedVocabulary) -> None:
        self._word_width = WordEncoder(clip).width
        super().__init__(clip, settings, vocabulary)
        self.teacher = CropTeacher(clip, settings.crops_by)
        self.encoder = WordEncoder(clip)
        self.earlier_bags, self.earlier_regions = (
            PairQueue(settings.queue, clip.embed_dim) if settings.queue else None for _ in range(2)
        )
        self.place = nn.Linear(4, self._word_width)
        nn.init.zeros_(self.place.weight)
        nn.init.zeros_(self.place.bias)

    def head_dim(self, joint_dim: int) -> int:
        """All pseudo words of a region, one after another."""
        del joint_dim
        return self.settings.words * self._word_width

    def words_of(self, embeddings_RD: Tensor) -> Tensor:
        """Region embeddings -> pseudo words (R, L, C)."""
        return embeddings_RD.reshape(embeddings_RD.shape[0], self.settings.words, self._word_width)

    def class_embeddings(self, embeddings_RD: Tensor) -> Tensor:
        """The text tower's reading of each region's words."""
        return self.encoder(self.words_of(embeddings_RD))  # type: ignore[no-any-return]

    def extra_losses(self, seen: RegionPass, step: Step) -> dict[str, Tensor]:
        """Bags against crops, single regions against the dense map: means over those of all processes.

        What a region is told apart from is all that the processes see at once, a micro-batch each; as with batch norm,
        accumulated micro-batches do not meet.
        """
        bags = draw_bags(seen, step, most=self.settings.distill_regions, longest=self._longest_bag())
        embeddings_RD = self.embed_regions(seen.maps, bags.boxes)
        words_RLC = self.words_of(embeddings_RD)
        singles_RD = self.encoder(words_RLC * bags.kept_RL(step, self.settings.words)[..., None].to(words_RLC))
        student_ND = self._read_bags(words_RLC, bags)
        pixels = pixels_of(self.settings, self.backbone.clip)
        teacher_ND = embed_boxes(self.teacher.clip, seen.batch.images_B3HW, bags.around, pixels=pixels)
        height, width = seen.batch.images_B3HW.shape[2:]
        assert seen.features.dense is not None
        shares = seen.maps[0].new_tensor([width, height] * 2, dtype=torch.float32)
        regions_RD = pool_boxes(seen.features.dense.float(), [boxes / shares for boxes in bags.boxes])
        numbers = [seed_of("image", bags.names[image]) for image in bags.images]
        images_N = torch.tensor(numbers, dtype=torch.long, device=student_ND.device)
        images_R = images_N.repeat_interleave(torch.tensor(bags.sizes, device=student_ND.device))
        weight = self.settings.extra_weight * len(seen.batch.names)
        return {
            "bags": weight
            * contrast(
                student_ND,
                teacher_ND,
                images_N,
                temperature=BAG_TEMPERATURE,
                world=step.world,
                queue=self.earlier_bags,
            ),
            "single_regions": weight
            * REGION_WEIGHT
            * contrast(
                singles_RD,
                regions_RD,
                images_R,
                temperature=REGION_TEMPERATURE,
                world=step.world,
                queue=self.earlier_regions,
            ),
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


def draw_bags(seen: RegionPass, step: Step, *, most: int, longest: int) -> Bags:
    """Bags around the best proposals: each with neighbours of its own size that lie mostly in the image.

    Args:
        seen: Proposals and sizes.
        step: Gives the draws.
        most: Bags of an image.
        longest: Boxes of a bag.
    """
    boxes, around, sizes, images = [], [], [], []
    names = seen.batch.names
    for image, (found, size, name) in enumerate(zip(seen.proposals, seen.batch.sizes, names, strict=True)):
        generator = step.generator("bags", name)
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
    return Bags(boxes=boxes, around=around, sizes=sizes, images=images, names=names)


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
