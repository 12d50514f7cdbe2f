"""`odise_fusion`: mask tokens in a small CLIP, open-vocabulary logits, fused scores and post-processing of ODISE."""

from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.mask_tokens import embed_mask_tokens
from clipself.conformance.check import Check, compare_stored
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest, small_clip
from clipself.conformance.mask_fusion import check_image, padded_size
from clipself.panoptic.mixture import log_mixture, overlapping, with_void
from clipself.panoptic.text import class_logits
from clipself.panoptic.to_maps import resize_to_original
from clipself.structures import TextRows

TOLERANCE: Final = 5e-4
"""Where a manifest tells none."""


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Follows one batch from pixels to maps and compares every stored array."""
    config = manifest["config"]
    held = {
        name: torch.from_numpy(arrays[name])
        for name in ("image", "pred_masks", "text", "mask_embed", "category_text", "null_embed")
    }
    counts = tuple(map(len, config["test_labels"]))
    images = held["image"].float() / 255
    state = fill_manifest(manifest, prefix="clip.")
    clip = small_clip(config["clip"], state, image_size=config["clip"]["res"])
    embeddings = embed_mask_tokens(clip, _clip_input(images, config), held["pred_masks"], blocking="raised")
    outside = class_logits(embeddings, TextRows(rows_SD=held["text"], counts=counts), scale=config["clip_logit_scale"])
    inside = class_logits(
        held["mask_embed"], TextRows(rows_SD=held["category_text"], counts=counts),
        scale=config["in_vocab_logit_scale"], void_1D=held["null_embed"],
    )  # fmt: skip
    fused = log_mixture(
        inside[..., :-1],
        outside,
        seen=overlapping(config["test_labels"], config["train_labels"]),
        alpha=config["alpha"],
        beta=config["beta"],
    )
    scores = with_void(fused, inside.softmax(-1)[..., -1:])
    ours = {
        "maskclip_embed": embeddings, "maskclip_logits": outside, "in_vocab_logits": inside, "fused": fused,
    }  # fmt: skip
    checks = compare_stored(manifest, {key: arrays[key] for key in ours if key in arrays}, ours, default=TOLERANCE)
    size = (images.shape[-2], images.shape[-1])
    padded = padded_size({**config, "image_sizes": [size]})
    for index, scores_QK1 in enumerate(scores):
        original = tuple(arrays[f"panoptic_{index}"].shape)
        masks = resize_to_original(
            held["pred_masks"][index], padded=padded, kept=size,
            original=(original[0], original[1]),
        )  # fmt: skip
        checks += check_image(manifest, arrays, index, scores_QK1, masks, default=TOLERANCE)
    return checks


def _clip_input(images: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Squashed to the CLIP's square without padding, then normalised; the masks keep the padding, as published."""
    side = config["clip"]["res"]
    squashed = F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(config[f"clip_{name}"])[:, None, None] for name in ("mean", "std"))
    return (squashed - mean) / std
