"""The whole path: masks from a generator, names from a CLIP, one answer in three forms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipself.choices import pick
from clipself.panoptic.judge import ClipJudge
from clipself.panoptic.masks import MaskGenerator, MaskSet
from clipself.panoptic.postprocess import Instances, PanopticMap, instances, panoptic_map, semantic_map
from clipself.panoptic.scores import log_mixture, overlapping, with_void
from clipself.text.synonyms import split_synonyms


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Shares of the CLIP in the class score.

    Attributes:
        alpha: In classes that the generator was trained on.
        beta: In all others.
    """

    alpha: float
    beta: float

    @property
    def needs_generator(self) -> bool:
        """Whether the generator's own class scores take part."""
        return self.alpha < 1 or self.beta < 1


MIXTURES: Final[Mapping[str, Mixture]] = {
    "clip": Mixture(alpha=1.0, beta=1.0),
    "generator": Mixture(alpha=0.0, beta=0.0),
    "both": Mixture(alpha=0.4, beta=0.8),
    "both-odise": Mixture(alpha=0.3, beta=0.7),
}
"""Rows of the papers' tables: the CLIP alone, the generator alone, both as FC-CLIP or as ODISE weighs them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """Thresholds from masks to maps, published by FC-CLIP and ODISE.

    Attributes:
        object_threshold: Masks below this class probability are left out of the panoptic map.
        overlap_threshold: Least share of its own area that a mask must win there.
        top: Pairs of mask and class looked at for instances.
    """

    object_threshold: float = 0.0
    overlap_threshold: float = 0.8
    top: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmented:
    """One picture, segmented.

    Attributes:
        panoptic: Every pixel to one segment at most.
        instances: Scored things.
        semantic_HW: Class of every pixel, int64; -1 where there is no mask at all.
        log_scores_QK1: Log-probabilities of every mask, "no object" last.
    """

    panoptic: PanopticMap
    instances: Instances
    semantic_HW: Tensor
    log_scores_QK1: Tensor


def mix_scores(masks: MaskSet, judged_QK: Tensor | None, *, mixture: Mixture, seen: Sequence[bool]) -> Tensor:
    """Class scores of the generator and of the CLIP -> log-probabilities (Q, K + 1), "no object" last.

    Args:
        masks: What the generator says.
        judged_QK: Logits of the CLIP; may be None where the mixture leaves it out.
        mixture: Shares of both.
        seen: For each class whether the generator was trained on it.

    Raises:
        ValueError: The mixture wants class scores that the generator does not have.
    """
    if mixture.needs_generator and masks.logits_QK is None:
        raise ValueError(
            "these masks come without scores of these names, so only the CLIP can judge them; use scores 'clip'"
        )
    inside, outside = masks.logits_QK, judged_QK
    known = inside if inside is not None else outside
    assert known is not None
    inside = known if inside is None or not mixture.needs_generator else inside
    outside = known if outside is None else outside
    fused = log_mixture(
        inside[None].to(outside.device), outside[None], seen=seen, alpha=mixture.alpha, beta=mixture.beta
    )
    return with_void(fused, masks.void_Q.to(fused)[None, :, None])[0]


def finish(log_scores_QK1: Tensor, masks_QHW: Tensor, *, is_thing: Sequence[bool], rules: Rules) -> Segmented:
    """Scores and masks at the picture's size -> the three forms."""
    if len(masks_QHW):
        semantic_HW = semantic_map(log_scores_QK1, masks_QHW).argmax(0)
    else:
        semantic_HW = torch.full(masks_QHW.shape[1:], -1, dtype=torch.long, device=masks_QHW.device)
    return Segmented(
        panoptic=panoptic_map(
            log_scores_QK1,
            masks_QHW,
            is_thing=is_thing,
            object_threshold=rules.object_threshold,
            overlap_threshold=rules.overlap_threshold,
        ),
        instances=instances(log_scores_QK1, masks_QHW, is_thing=is_thing, top=rules.top),
        semantic_HW=semantic_HW,
        log_scores_QK1=log_scores_QK1,
    )


def at_picture_size(masks_QYX: Tensor, picture: Image.Image) -> Tensor:
    """Mask logits (Q, H, W) at the picture's own size."""
    size = (picture.height, picture.width)
    if masks_QYX.shape[1:] == size:
        return masks_QYX.float()
    if not len(masks_QYX):
        return masks_QYX.new_zeros(0, *size)
    return F.interpolate(masks_QYX[None].float(), size=size, mode="bilinear", align_corners=False)[0]


class PanopticSegmenter:
    """Segments pictures by names that are given at run time.

    Four lines to a panoptic map::

        clip = load_clip("runs/refined/blended")
        judge = ClipJudge(clip, ["cat", "dog", "grass"])
        segmenter = PanopticSegmenter(FileMasks("sam.json"), judge, ["cat", "dog", "grass"], [True, True, False])
        found = segmenter(picture, file="cat.jpg").panoptic

    Args:
        generator: Where masks come from.
        judge: The CLIP's opinion, made for the same names.
        names: One string a class; commas separate synonyms.
        is_thing: For each class whether it is a thing.
        scores: Row of `MIXTURES`, or a `Mixture`.
        rules: Thresholds.

    Raises:
        ValueError: Names, kinds and judge do not belong together, or the mixture is unknown.
    """

    def __init__(
        self,
        generator: MaskGenerator,
        judge: ClipJudge,
        names: Sequence[str],
        is_thing: Sequence[bool],
        *,
        scores: str | Mixture = "clip",
        rules: Rules | None = None,
    ) -> None:
        if not len(names) == len(is_thing) == len(judge.text.counts):
            raise ValueError(
                f"{len(names)} names, {len(is_thing)} kinds and a judge of {len(judge.text.counts)} classes do not "
                "belong together; make all three from one list"
            )
        self.generator, self.judge, self.names, self.is_thing = generator, judge, list(names), list(is_thing)
        self.mixture = scores if isinstance(scores, Mixture) else pick(MIXTURES, scores, what="mixture of scores")
        self.rules = rules or Rules()
        self.seen = seen_by(generator, names)

    @torch.no_grad()
    def __call__(self, picture: Image.Image, *, file: str = "") -> Segmented:
        """Segments one picture.

        Args:
            picture: RGB picture.
            file: Its file; masks from files are found by it.
        """
        masks = self.generator(picture, file=file, names=self.names)
        judged = self.judge(picture, masks.masks_QYX)
        log_scores = mix_scores(masks, judged, mixture=self.mixture, seen=self.seen)
        full = at_picture_size(masks.masks_QYX.to(log_scores.device), picture)
        return finish(log_scores, full, is_thing=self.is_thing, rules=self.rules)


def seen_by(generator: MaskGenerator, names: Sequence[str]) -> list[bool]:
    """Which of the names the generator has met in training."""
    return overlapping([split_synonyms(name) for name in names], list(map(split_synonyms, generator.trained_names)))
