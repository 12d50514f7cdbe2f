"""`promptovd_reading`: our reading of PromptOVD, whose authors published no code, against formulas of it."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.mask_tokens import blocked_pairs, patches_of_boxes
from clipself.conformance.check import Check, compare_stored
from clipself.conformance.dense_models import Arrays
from clipself.detection.detectors.promptovd.regions import most_likely
from clipself.layers.deformable_transformer import attend


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Patches of boxes, attention of RoI tokens, pruning, and queries that look at prompts."""
    config = manifest["config"]
    held = {name: torch.from_numpy(value) for name, value in arrays.items()}
    rows, cols = config["grid"]
    inside_RP = patches_of_boxes(held["boxes"][None], grid=(rows, cols), patch=config["patch"])[0]
    query, key, value = (torch.cat([held[f"roi_{part}"], held[part]], dim=1) for part in "qkv")
    allowed = ~blocked_pairs(inside_RP[None], itself=True)[0]
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    regions = len(inside_RP)
    ours = {
        "inside": inside_RP, "roi_out": mixed[:, :regions], "ordinary": mixed[:, regions:],
        "kept": most_likely(held["objectness"], config["kept"]),
        "prompted": attend(
            _identity(held["queries"]), held["queries"][None], prompts_BPC=held["prompts"][None]
        )[0],
    }  # fmt: skip
    return compare_stored(manifest, {name: arrays[name] for name in ours if name in arrays}, ours, default=1e-10)


def _identity(queries_QC: Tensor) -> nn.MultiheadAttention:
    """Attention of one head whose projections change nothing."""
    width = queries_QC.shape[1]
    attention = nn.MultiheadAttention(width, 1, batch_first=True, dtype=queries_QC.dtype)
    attention.in_proj_weight.copy_(torch.eye(width).repeat(3, 1))
    attention.out_proj.weight.copy_(torch.eye(width))
    return attention
