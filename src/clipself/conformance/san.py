"""`san_*`: taps, side network, biases, recognition in both forms, logits and the semantic map."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipself.conformance.check import Check, compare, compare_stored
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.losses.mask_classification import MaskPredictions
from clipself.segmentation.san.model import San, format_bias, pool_bias, semantic_scores
from clipself.segmentation.san.published import read_san
from clipself.segmentation.san.settings import SanSettings, SideSettings


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Compares every stored array and the counts of parameters."""
    config = manifest["config"]
    settings, heads = san_settings_of(config), int(config["clip"]["heads"])
    model = read_san(fill_manifest(manifest), settings, source="filled by rule", heads=heads)
    ours = _compute(model, manifest, arrays)
    checks = compare_stored(manifest, arrays, ours, default=5e-4)
    counted = sum(parameter.numel() for parameter in model.side.parameters())
    return [*checks, compare("parameters of the side network", counted, manifest["n_params"]["side"], atol=0.0)]


def san_settings_of(config: Mapping[str, Any]) -> SanSettings:
    """The published names of the sizes -> ours."""
    side = config["side"]
    return SanSettings(
        split=config["tap_last"],
        clip_scale=config["clip_scale"],
        cut_remainder=True,
        logit_scale=config["logit_scale"],
        side=SideSettings(
            width=side["width"],
            depth=side["depth"],
            heads=side["heads"],
            patch=side["patch"],
            table_size=side["pos_embed_image_size"],
            queries=side["queries"],
            channels=side["embed_channels"],
            clip_heads=config["clip"]["heads"],
            fusion={int(tap): int(depth) for tap, depth in config["fusion_map"].items()},
            supervised=tuple(config["deep_supervision"]),
        ),
    )


def _compute(model: San, manifest: Mapping[str, Any], arrays: Arrays) -> dict[str, Tensor]:
    generator = np.random.default_rng(manifest["inputs"]["seed"])
    drawn = {
        row["name"]: torch.from_numpy(generator.standard_normal(row["shape"]).astype(np.float32))
        for row in manifest["inputs"]["order"]
    }
    images, texts = torch.from_numpy(arrays["image"]), drawn["text"]
    texts = texts / texts.norm(dim=-1, keepdim=True)
    features = model.extract(images)
    entered = features.tokens
    assert entered is not None
    *earlier, last = model.side(images, features.taps, depths=model.supervised)
    embeddings = model.recognise(features, last, head="all")
    logits = model.classify(embeddings, texts)
    formatted = format_bias(pool_bias(last.bias_BhQYX, entered.grid)).flatten(0, 1)
    semantic = semantic_scores(
        MaskPredictions(logits_BQK=logits, masks_BQYX=last.masks_BQYX),
        size=(images.shape[2], images.shape[3]),
    )
    ours = {
        "image": drawn["image"],
        "mask_preds": last.masks_BQYX,
        "attn_bias": last.bias_BhQYX,
        "attn_bias_formatted": formatted,
        "mask_embs": embeddings,
        "mask_embs_cross_attn": model.recognise(features, last, head="queries"),
        "mask_logits": logits,
        "sem_seg": semantic[0],
        "clip_feat_last": features.taps[model.split],
        "clip_cls_last": entered.tokens[:, :1].transpose(0, 1),
    }
    if earlier:
        ours |= {"aux_mask_preds": earlier[-1].masks_BQYX, "aux_attn_bias": earlier[-1].bias_BhQYX}
    return ours
