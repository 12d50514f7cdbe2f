"""Masks with class scores -> semantic map, instances, panoptic map; the rules of the Mask2Former family."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.ops.axes import pieces
from clipself.ops.contenders import best_by_masks
from clipself.ops.masks import boxes_around, class_scores
from clipself.panoptic.settings import Rules
from clipself.structures import Panoptic, PanopticSegment

SCORES_AT_ONCE: Final = 2**26
"""Numbers in one piece of what is made for every pixel: a quarter of a gigabyte."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Instances:
    """Scored masks of things, best first; they may overlap.

    Attributes:
        masks_NHW: Booleans, at the picture's size or, of a giant, at the size where masks competed.
        labels_N: Index into the vocabulary.
        scores_N: Class probability times mean mask probability inside.
        boxes: (N, 4) `xyxy` in pixels of the picture, far corner one past the last one; zeros where a mask is empty.
        size: Height and width of the picture.
    """

    masks_NHW: Tensor
    labels_N: Tensor
    scores_N: Tensor
    boxes: Tensor
    size: tuple[int, int]

    def masks(self) -> Iterator[Tensor]:
        """The masks at the picture's size, one after another: all of a giant's would not fit into memory."""
        for mask_HW in self.masks_NHW:
            yield enlarge(mask_HW, self.size)


def resize_to_original(
    masks_QYX: Tensor, *, padded: tuple[int, int], kept: tuple[int, int], original: tuple[int, int]
) -> Tensor:
    """Mask logits at the decoder's stride -> at the size of the picture.

    Source: FC-CLIP and ODISE, released evaluation: enlarge to the padded input, cut the padding off, resize.

    Args:
        masks_QYX: Mask logits.
        padded: Height and width of the network's input.
        kept: Height and width of the picture in it, at its upper left.
        original: Height and width of the picture itself.
    """
    full = F.interpolate(masks_QYX[None], size=padded, mode="bilinear", align_corners=False)
    cut = full[:, :, : kept[0], : kept[1]]
    return F.interpolate(cut, size=original, mode="bilinear", align_corners=False)[0]


def semantic_map(log_scores_QK1: Tensor, masks_QHW: Tensor) -> Tensor:
    """Scores of every class at every pixel.

    Args:
        log_scores_QK1: Log-probabilities with "no object" last.
        masks_QHW: Mask logits.

    Returns:
        (K, H, W): sum over the masks of class probability times mask probability.
    """
    probabilities = log_scores_QK1.softmax(-1)[:, :-1]
    return class_scores(probabilities, masks_QHW.sigmoid())


def semantic_labels(log_scores_QK1: Tensor, masks_QHW: Tensor) -> Tensor:
    """The best class of every pixel (H, W), -1 where there is no mask at all."""
    size = (masks_QHW.shape[1], masks_QHW.shape[2])
    if not len(masks_QHW):
        return torch.full(size, -1, dtype=torch.long, device=masks_QHW.device)
    if masks_QHW.device.type != "cpu":
        return labels_of_all(log_scores_QK1, masks_QHW)
    classes_QK = log_scores_QK1.softmax(-1)[:, :-1]
    return best_by_masks(classes_QK, lambda rows, cols: masks_QHW[:, rows, cols].sigmoid(), size)[0]


def labels_of_all(log_scores_QK1: Tensor, masks_QHW: Tensor) -> Tensor:
    """The best class of every pixel (H, W) by the scores of all classes, which exist for a few rows at a time."""
    at_once = max(1, SCORES_AT_ONCE // (masks_QHW.shape[2] * max(log_scores_QK1.shape)))
    rows = pieces(masks_QHW, at_once, axis=1)
    return torch.cat([semantic_map(log_scores_QK1, some).argmax(0) for some in rows])


def panoptic_map(
    log_scores_QK1: Tensor,
    masks_QHW: Tensor,
    *,
    is_thing: Sequence[bool],
    object_threshold: float = 0.0,
    overlap_threshold: float = 0.8,
) -> Panoptic:
    """Each pixel goes to the mask that claims it most; masks that lose most of themselves are dropped.

    Source: Mask2Former as in ODISE and FC-CLIP, whose thresholds are the defaults.

    Args:
        log_scores_QK1: Log-probabilities with "no object" last.
        masks_QHW: Mask logits.
        is_thing: For each class whether it is a thing; stuff of one class is one segment.
        object_threshold: Masks below this class probability are left out.
        overlap_threshold: Least share of a mask's own area that it must win.
    """
    scores_Q, labels_Q = log_scores_QK1.softmax(-1).max(-1)
    keep = (labels_Q != len(is_thing)) & (scores_Q > object_threshold)
    ids_HW = torch.zeros(masks_QHW.shape[1:], dtype=torch.int32, device=masks_QHW.device)
    if not keep.any():
        return Panoptic(ids_HW=ids_HW, segments=())
    scores_Q, labels_Q, masks_QHW = scores_Q[keep], labels_Q[keep], masks_QHW[keep]
    winner_HW = winners(scores_Q, masks_QHW)
    sure_HW = masks_QHW.gather(0, winner_HW[None])[0].sigmoid() >= 0.5
    count = len(scores_Q)
    won = torch.bincount(winner_HW.flatten(), minlength=count).tolist()
    painted = torch.bincount(winner_HW[sure_HW], minlength=count).tolist()
    own = [int((mask_HW.sigmoid() >= 0.5).count_nonzero()) for mask_HW in masks_QHW]  # one at a time stays in the cache
    segments: list[PanopticSegment] = []
    stuff_ids: dict[int, int] = {}
    id_of_mask = torch.zeros(count, dtype=torch.int32)
    for place, (label, score) in enumerate(zip(labels_Q.tolist(), scores_Q.tolist(), strict=True)):
        if not painted[place] or won[place] / own[place] < overlap_threshold:
            continue
        if label in stuff_ids:
            id_of_mask[place] = stuff_ids[label]
            continue
        segments.append(PanopticSegment(id=len(segments) + 1, label=label, is_thing=bool(is_thing[label]), score=score))
        id_of_mask[place] = len(segments)
        if not is_thing[label]:
            stuff_ids[label] = len(segments)
    ids_HW = torch.where(sure_HW, id_of_mask.to(winner_HW.device)[winner_HW], ids_HW)
    return Panoptic(ids_HW=ids_HW, segments=tuple(segments))


def winners(scores_Q: Tensor, masks_QHW: Tensor) -> Tensor:
    """The mask (H, W) that claims each pixel most: by its score times its probability there."""
    if masks_QHW.device.type != "cpu":
        return (scores_Q[:, None, None] * masks_QHW.sigmoid()).argmax(0)
    size = (masks_QHW.shape[1], masks_QHW.shape[2])  # each mask is a class of its own
    return best_by_masks(scores_Q.diag(), lambda rows, cols: masks_QHW[:, rows, cols].sigmoid(), size)[0]


def instances(log_scores_QK1: Tensor, masks_QHW: Tensor, *, is_thing: Sequence[bool], top: int = 100) -> Instances:
    """The best pairs of mask and class; those of stuff are dropped after the choice, as published.

    Args:
        log_scores_QK1: Log-probabilities with "no object" last.
        masks_QHW: Mask logits.
        is_thing: For each class whether it is a thing.
        top: Pairs that are looked at.
    """
    probabilities_QK = log_scores_QK1.softmax(-1)[:, :-1]
    num_classes = probabilities_QK.shape[1]
    scores_N, pairs_N = probabilities_QK.flatten().topk(min(top, probabilities_QK.numel()))
    labels_N = pairs_N % num_classes
    thing_N = torch.tensor(list(is_thing), dtype=torch.bool, device=labels_N.device)[labels_N]
    scores_N, labels_N = scores_N[thing_N], labels_N[thing_N]
    used_M, mask_of_N = torch.unique(pairs_N[thing_N] // num_classes, return_inverse=True)
    logits_MHW = masks_QHW[used_M]
    masks_MHW = logits_MHW > 0
    inside_M = torch.stack([mean_inside(one_HW) for one_HW in logits_MHW]) if len(logits_MHW) else scores_N[:0]
    scores_N = scores_N * inside_M[mask_of_N]
    order = scores_N.argsort(descending=True, stable=True)
    mask_of_N = mask_of_N[order]
    return Instances(
        masks_NHW=masks_MHW[mask_of_N],
        labels_N=labels_N[order],
        scores_N=scores_N[order],
        boxes=boxes_around(masks_MHW)[mask_of_N],
        size=(masks_QHW.shape[1], masks_QHW.shape[2]),
    )


def mean_inside(logits_HW: Tensor) -> Tensor:
    """The mean probability of a mask where it is above one half."""
    inside_HW = logits_HW > 0
    return (logits_HW.sigmoid() * inside_HW).sum() / (inside_HW.count_nonzero() + 1e-6)


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmented:
    """One picture, segmented.

    Attributes:
        panoptic: Every pixel to one segment at most.
        instances: Scored things.
        semantic_HW: Class of every pixel, int64; -1 where there is no mask at all.
        log_scores_QK1: Log-probabilities of every mask, "no object" last.
    """

    panoptic: Panoptic
    instances: Instances
    semantic_HW: Tensor
    log_scores_QK1: Tensor


def finish(
    log_scores_QK1: Tensor, masks_QHW: Tensor, *, names: Sequence[str], is_thing: Sequence[bool], rules: Rules
) -> Segmented:
    """Scores and masks at the picture's size -> the three forms."""
    return Segmented(
        panoptic=replace(
            panoptic_map(
                log_scores_QK1,
                masks_QHW,
                is_thing=is_thing,
                object_threshold=rules.object_threshold,
                overlap_threshold=rules.overlap_threshold,
            ),
            names=tuple(names),
        ),
        instances=instances(log_scores_QK1, masks_QHW, is_thing=is_thing, top=rules.top),
        semantic_HW=semantic_labels(log_scores_QK1, masks_QHW),
        log_scores_QK1=log_scores_QK1,
    )


def resize_masks(masks_QYX: Tensor, size: tuple[int, int]) -> Tensor:
    """Mask logits (Q, H, W) at another size, bilinear, as float32; a few at a time, since stored ones are large."""
    if masks_QYX.shape[1:] == size:
        return masks_QYX.float()
    if not len(masks_QYX):
        return masks_QYX.new_zeros(0, *size, dtype=torch.float32)
    at_once = max(1, SCORES_AT_ONCE // masks_QYX[0].numel())
    resized = [
        F.interpolate(some[None].float(), size=size, mode="bilinear", align_corners=False)[0]
        for some in pieces(masks_QYX, at_once, axis=0)
    ]
    return resized[0] if len(resized) == 1 else torch.cat(resized)


def working_size(size: tuple[int, int], *, longest: int) -> tuple[int, int]:
    """Height and width at which masks of a picture compete: its own, or of a giant less."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def to_picture_size(found: Segmented, size: tuple[int, int]) -> Segmented:
    """Maps and boxes at the picture's size; masks of instances are enlarged one by one, when they are asked for."""
    height, width = found.semantic_HW.shape
    if (height, width) == size:
        return found
    scale = torch.tensor([size[1] / width, size[0] / height] * 2, device=found.instances.boxes.device)
    return replace(
        found,
        panoptic=replace(found.panoptic, ids_HW=enlarge(found.panoptic.ids_HW, size)),
        instances=replace(found.instances, boxes=found.instances.boxes * scale, size=size),
        semantic_HW=enlarge(found.semantic_HW, size),
    )


def enlarge(values_HW: Tensor, size: tuple[int, int]) -> Tensor:
    """Whole numbers at another size: each pixel takes the value where its middle lies."""
    if values_HW.shape == size:
        return values_HW
    rows, cols = (
        ((torch.arange(new, device=values_HW.device) + 0.5) * old / new).long()
        for new, old in zip(size, values_HW.shape, strict=True)
    )
    return values_HW[rows][:, cols]
