"""`fcclip_fusion*`: prompts, overlap rule, fused scores and post-processing of FC-CLIP."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clipself.backbones.text import average_templates
from clipself.conformance.check import Check, compare, compare_stored, compare_told, tolerance_at
from clipself.conformance.dense_models import Arrays
from clipself.conformance.told import number_in
from clipself.ops.pooling import pool_mask_logits
from clipself.panoptic.mixture import log_mixture, overlapping, with_void
from clipself.panoptic.text import class_logits
from clipself.panoptic.to_maps import instances, panoptic_map, resize_to_original, semantic_map
from clipself.structures import TextRows
from clipself.text.synonyms import fill_plainly, split_synonyms
from clipself.text.templates import load_templates

TOLERANCE: Final = 2e-4
"""Where a manifest tells none."""


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Follows one batch from text and logits to maps and compares every stored array."""
    config = manifest["config"]
    names = [split_synonyms(name) for name in config["test_names"]]
    seen = overlapping(names, [split_synonyms(name) for name in config["train_names"]])
    prompts = fill_plainly([name for some in names for name in some], load_templates("vild"))
    first = manifest["test_prompts_first"]
    counts = tuple(map(len, names))
    checks = [
        _count("prompts that differ", sum(ours != theirs for ours, theirs in zip(prompts, first, strict=False))),
        compare("overlapping_mask", seen, manifest["overlapping_mask"], atol=0.0),
        compare("num_templates", [*counts, 1][: len(manifest["num_templates"])], manifest["num_templates"], atol=0.0),
    ]
    text = TextRows(rows_SD=average_templates(torch.from_numpy(arrays["text_raw"]), names=sum(counts)), counts=counts)
    classifier = text.rows_SD.numpy()
    checks.append(compare_told(manifest, "text_classifier", classifier, arrays["text_classifier"], default=TOLERANCE))
    scores = _fuse(config, arrays, text, seen)
    padded = padded_size(config)
    for index in range(len(scores)):
        masks = resize_to_original(
            torch.from_numpy(arrays["pred_masks"])[index],
            padded=padded,
            kept=tuple(config["image_sizes"][index]),
            original=tuple(config["original_sizes"][index]),
        )
        checks += check_image(manifest, arrays, index, scores[index], masks, default=TOLERANCE)
    return checks


def told_tie(manifest: Mapping[str, Any]) -> float:
    """How near two scores are that may go either way: pixels to one of two masks, instances into the best or not."""
    return number_in(manifest.get("tolerance", ""), r"within ([0-9.e-]+) of a tie", default=1e-5)


def _fuse(config: Mapping[str, Any], arrays: Arrays, text: TextRows, seen: Sequence[bool]) -> Tensor:
    """Log-scores (B, Q, K + 1) from the stored logits and the pooled CLIP features."""
    logits, masks, dense, projection = (
        torch.from_numpy(arrays[name]) for name in ("pred_logits", "pred_masks", "clip_vis_dense", "clip_proj")
    )
    pooled = pool_mask_logits(dense, masks) @ projection
    outside = class_logits(pooled, text, scale=float(np.exp(config["clip_logit_scale_log"])))
    valid = None
    if config["ensemble_on_valid_mask"]:
        small = F.interpolate(masks, size=dense.shape[-2:], mode="bilinear", align_corners=False)
        valid = (small > 0).flatten(2).any(-1)
    fused = log_mixture(
        logits[..., :-1], outside, seen=seen, alpha=config["alpha"], beta=config["beta"], valid_BQ=valid
    )
    return with_void(fused, logits.softmax(-1)[..., -1:])


def padded_size(config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the batch: the largest of each, up to a multiple of the divisibility."""
    step = int(config["size_divisibility"])
    heights, widths = zip(*config["image_sizes"], strict=True)
    return -(-max(heights) // step) * step, -(-max(widths) // step) * step


def check_image(
    manifest: Mapping[str, Any], arrays: Arrays, index: int, scores: Tensor, masks: Tensor, *, default: float
) -> list[Check]:
    """Post-processes one image and compares what is stored of it.

    Args:
        manifest: Its constants, tolerances and words.
        arrays: Of the manifest.
        index: The image.
        scores: Log-scores (Q, K + 1).
        masks: Mask logits (Q, H, W) at the picture's size.
        default: Absolute tolerance where the manifest tells none.
    """
    config, tie = manifest["config"], told_tie(manifest)
    things = set(config["thing_ids"])
    is_thing = [label in things for label in range(scores.shape[1] - 1)]
    ours = {f"mask_cls_{index}": scores, f"sem_seg_{index}": semantic_map(scores, masks)}
    checks = compare_stored(manifest, {key: arrays[key] for key in ours if key in arrays}, ours, default=default)
    found = panoptic_map(
        scores,
        masks,
        is_thing=is_thing,
        object_threshold=config["object_mask_threshold"],
        overlap_threshold=config["overlap_threshold"],
    )
    rows = np.array([[one.id, int(one.is_thing), one.label] for one in found.segments]).reshape(-1, 3)
    checks.append(compare(f"segments_{index}", rows, arrays[f"segments_{index}"].reshape(-1, 3), atol=0.0))
    wrong = (found.ids_HW.numpy() != arrays[f"panoptic_{index}"]) & ~near_tie(scores, masks, config, tie)
    checks.append(_count(f"panoptic_{index} pixels that differ", int(wrong.sum())))
    allowed = tolerance_at(manifest, f"inst_scores_{index}", default=default)
    return checks + _check_instances(config, arrays, index, scores, masks, is_thing, allowed=allowed, tie=tie)


def near_tie(scores: Tensor, masks: Tensor, config: Mapping[str, Any], tie: float) -> NDArray[np.bool_]:
    """Pixels (H, W) at which two masks claim almost alike, or the winner is almost undecided."""
    best, labels = scores.softmax(-1).max(-1)
    keep = (labels != scores.shape[1] - 1) & (best > config["object_mask_threshold"])
    soft = masks.sigmoid()[keep]
    if not len(soft):
        return np.zeros(masks.shape[1:], dtype=bool)
    claims = (best[keep][:, None, None] * soft).topk(min(2, len(soft)), dim=0)
    undecided = (soft.gather(0, claims.indices[:1])[0] - 0.5).abs() < tie
    tied = claims.values[0] - claims.values[-1] < tie if len(soft) > 1 else torch.zeros_like(undecided)
    close: NDArray[np.bool_] = (undecided | tied).numpy()
    return close


def _check_instances(
    config: Mapping[str, Any], arrays: Arrays, index: int, scores: Tensor, masks: Tensor, is_thing: list[bool],
    *, allowed: tuple[float, float], tie: float,
) -> list[Check]:  # fmt: skip
    """Instances as sets: the release leaves the order of equal scores open, and which of them are among the best."""
    top, (atol, rtol) = config["topk"], allowed
    ranked = scores.softmax(-1)[:, :-1].flatten().sort(descending=True).values
    cut = ranked[min(top, len(ranked)) - 1]
    sure, possible = (int((ranked > cut + tie).sum()), int((ranked > cut - tie).sum()))
    open_cut = possible > top
    found = instances(scores, masks, is_thing=is_thing, top=possible if open_cut else top)
    theirs, classes = arrays[f"inst_scores_{index}"], arrays[f"inst_classes_{index}"]
    packed, stored = np.packbits(found.masks_NHW.flatten(1).numpy(), axis=1), arrays.get(f"inst_masks_{index}")
    # Pixels of a mask that lie on its edge may go either way.
    edge = int((masks.abs() < tie).flatten(1).sum(1).max()) if len(masks) else 0
    free, lost = set(range(len(found.scores_N))), 0
    for row, (score, label) in enumerate(zip(theirs.tolist(), classes.tolist(), strict=True)):
        same = [
            one
            for one in free
            if int(found.labels_N[one]) == label
            and abs(float(found.scores_N[one]) - score) <= atol + rtol * abs(score)
            and (stored is None or np.unpackbits(packed[one] ^ stored[row]).sum() <= edge)
        ]
        if same:
            free.remove(min(same, key=lambda one: abs(float(found.scores_N[one]) - score)))
        else:
            lost += 1
    kept = len(instances(scores, masks, is_thing=is_thing, top=sure).scores_N) if open_cut else len(found.scores_N)
    return [
        _count(f"inst_{index} that have no partner", lost),
        _count(f"inst_{index} that are missing", max(0, kept - len(theirs))),
    ]


def _count(key: str, number: int) -> Check:
    return Check(key=key, difference=float(number), tolerance=0.0)
