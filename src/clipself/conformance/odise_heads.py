"""`odise_heads`: pixel decoder, masked decoder with pooled mask embedding, and scores of names of ODISE."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clipself.conformance.check import Check, compare_stored
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.layers.masked_decoder import QueryState
from clipself.layers.pixel_decoder import PixelFeatures
from clipself.panoptic.generators.odise.heads import OdiseHeads, stand_in_logits
from clipself.structures import TextRows

LEVELS = re.compile(r"s\d$")


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Fills the heads, feeds the stored pyramid and text, compares every stored array."""
    config = manifest["config"]
    heads = build(config, fill_manifest(manifest))
    pyramid = [torch.from_numpy(arrays[name]) for name in sorted(arrays) if LEVELS.match(name)]  # finest first
    text = TextRows(rows_SD=torch.from_numpy(arrays["text"]), counts=tuple(config["labels"]))
    features = heads.pixel_decoder(pyramid)
    states = heads.predictor.decode(features)
    ours = {
        "mask_features": features.mask_features,
        **{f"ms{place}": level for place, level in enumerate(features.levels)},
        "logit_scale": heads.predictor.post_mask_embed.scale,
        "text_embed": heads.names(text).rows_SD,
        **_predicted(heads, features, states[-1], text, prefix="", masks="pred_masks"),
    }
    for place, state in enumerate(states[:-1]):
        ours |= _predicted(heads, features, state, text, prefix=f"aux{place}_", masks=f"aux{place}_masks")
    given = {"text", *(name for name in arrays if LEVELS.match(name))}
    return compare_stored(manifest, arrays, ours, default=1e-3, given=given)


def _predicted(
    heads: OdiseHeads, features: PixelFeatures, state: QueryState, text: TextRows, *, prefix: str, masks: str
) -> dict[str, Tensor]:
    """What the manifest may store of one state of the queries."""
    found = heads.predictor.predict(state, features.mask_features)
    scored = heads.score(found, text)
    return {
        masks: found.masks_BQYX,
        f"{prefix}mask_embed": found.embeddings_BQD,
        f"{prefix}mask_pooled": heads.predictor.post_mask_embed.pool(state, features.mask_features),
        f"{prefix}pred_logits": scored.classes_BQC if found.objects_BQ2 is None else scored.names_BQK,
        f"{prefix}pred_open_logits": scored.names_BQK,
        f"{prefix}decoder_logits": stand_in_logits(found, classes=len(text.counts)),
    }


def build(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> OdiseHeads:
    """The heads of a manifest, loaded strictly; which model it is follows from the head that it names."""
    offsets = "sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.attention_weights.bias"
    levels = len(state["sem_seg_head.pixel_decoder.transformer.level_embed"])
    head = "category_head" if "category_head.null_embed" in state else "word_head"
    heads = OdiseHeads(
        in_channels=[config["channels"]] * (levels + 1),
        text_dim=config["text"],
        supervision="label" if head == "category_head" else "caption",
        channels=config["dim"],
        mask_channels=config["mask_dim"],
        embed_dim=len(state[f"{head}.text_proj.bias"]),
        pixel_layers=config["enc"],
        pixel_hidden=config["ff_enc"],
        points=len(state[offsets]) // (config["heads"] * levels),
        layers=config["dec"],
        hidden=config["ff_dec"],
        queries=config["queries"],
        heads=config["heads"],
    )
    heads.load_state_dict(state, strict=True)
    return heads.eval()
