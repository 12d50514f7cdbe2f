"""`fcclip_fusion*`: prompts, overlap rule, fused scores and post-processing of FC-CLIP."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clipself.backbones.text import average_templates
from clipself.conformance.check import Check, compare, tolerance_of
from clipself.conformance.dense_models import Arrays
from clipself.ops.pooling import pool_mask_logits
from clipself.panoptic.mixture import log_mixture, overlapping, with_void
from clipself.panoptic.text import class_logits
from clipself.panoptic.to_maps import instances, panoptic_map, resize_to_original, semantic_map
from clipself.structures import TextRows
from clipself.text.synonyms import fill_plainly, split_synonyms
from clipself.text.templates import load_templates

TIE = 1e-5
"""Pixels whose two best claims are nearer than this may go either way."""


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Follows one batch from text and logits to maps and compares every stored array."""
    config = manifest["config"]
    atol, rtol = tolerance_of(manifest, default=2e-4)
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
    checks.append(compare("text_classifier", classifier, arrays["text_classifier"], atol=atol, rtol=rtol))
    scores = _fuse(config, arrays, text, seen)
    padded = padded_size(config)
    for index in range(len(scores)):
        masks = resize_to_original(
            torch.from_numpy(arrays["pred_masks"])[index],
            padded=padded,
            kept=tuple(config["image_sizes"][index]),
            original=tuple(config["original_sizes"][index]),
        )
        checks += check_image(config, arrays, index, scores[index], masks, atol=atol, rtol=rtol)
    return checks


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
    config: Mapping[str, Any],
    arrays: Arrays,
    index: int,
    scores: Tensor,
    masks: Tensor,
    *,
    atol: float,
    rtol: float,
    step: int = 1,
) -> list[Check]:
    """Post-processes one image and compares what is stored of it.

    Args:
        config: Of the manifest.
        arrays: Of the manifest.
        index: The image.
        scores: Log-scores (Q, K + 1).
        masks: Mask logits (Q, H, W) at the picture's size.
        atol: Absolute tolerance.
        rtol: Relative tolerance.
        step: Stride at which the semantic map is stored.
    """
    things = set(config["thing_ids"])
    is_thing = [label in things for label in range(scores.shape[1] - 1)]
    checks = [
        compare(f"mask_cls_{index}", scores.numpy(), arrays[f"mask_cls_{index}"], atol=atol, rtol=rtol),
        compare(
            f"sem_seg_{index}", semantic_map(scores, masks)[:, ::step, ::step].numpy(), arrays[f"sem_seg_{index}"],
            atol=atol, rtol=rtol,
        ),
    ]  # fmt: skip
    found = panoptic_map(
        scores,
        masks,
        is_thing=is_thing,
        object_threshold=config["object_mask_threshold"],
        overlap_threshold=config["overlap_threshold"],
    )
    rows = np.array([[one.id, int(one.is_thing), one.label] for one in found.segments]).reshape(-1, 3)
    checks.append(compare(f"segments_{index}", rows, arrays[f"segments_{index}"].reshape(-1, 3), atol=0.0))
    wrong = (found.ids_HW.numpy() != arrays[f"panoptic_{index}"]) & ~near_tie(scores, masks, config)
    checks.append(_count(f"panoptic_{index} pixels that differ", int(wrong.sum())))
    return checks + _check_instances(config, arrays, index, scores, masks, is_thing, atol=atol, rtol=rtol)


def near_tie(scores: Tensor, masks: Tensor, config: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Pixels (H, W) at which two masks claim almost alike, or the winner is almost undecided."""
    best, labels = scores.softmax(-1).max(-1)
    keep = (labels != scores.shape[1] - 1) & (best > config["object_mask_threshold"])
    soft = masks.sigmoid()[keep]
    if not len(soft):
        return np.zeros(masks.shape[1:], dtype=bool)
    claims = (best[keep][:, None, None] * soft).topk(min(2, len(soft)), dim=0)
    undecided = (soft.gather(0, claims.indices[:1])[0] - 0.5).abs() < TIE
    tied = claims.values[0] - claims.values[-1] < TIE if len(soft) > 1 else torch.zeros_like(undecided)
    close: NDArray[np.bool_] = (undecided | tied).numpy()
    return close


def _check_instances(
    config: Mapping[str, Any], arrays: Arrays, index: int, scores: Tensor, masks: Tensor, is_thing: list[bool],
    *, atol: float, rtol: float,
) -> list[Check]:  # fmt: skip
    """Instances best first on both sides; the release leaves their order open."""
    found = instances(scores, masks, is_thing=is_thing, top=config["topk"])
    theirs = arrays[f"inst_scores_{index}"]
    order = np.argsort(-theirs, kind="stable")
    checks = [
        compare(f"inst_scores_{index}", found.scores_N.numpy(), theirs[order], atol=atol, rtol=rtol),
        compare(f"inst_classes_{index}", found.labels_N.numpy(), arrays[f"inst_classes_{index}"][order], atol=0.0),
    ]
    if f"inst_masks_{index}" in arrays:
        packed = np.packbits(found.masks_NHW.flatten(1).numpy(), axis=1)
        stored = arrays[f"inst_masks_{index}"][order]
        wrong = np.unpackbits(packed ^ stored, axis=1).sum(axis=1) if packed.shape == stored.shape else np.inf
        sure = (masks.abs() < TIE).flatten(1).sum(1).max().item() if len(masks) else 0
        checks.append(
            Check(
                key=f"inst_masks_{index} pixels that differ", difference=float(np.max(wrong, initial=0)), tolerance=sure
            )
        )
    return checks


def _count(key: str, number: int) -> Check:
    return Check(key=key, difference=float(number), tolerance=0.0)
