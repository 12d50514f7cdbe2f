"""`fcclip_heads_*`: pixel decoder, masked decoder and class logits of FC-CLIP."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.conformance.check import Check, compare, compare_stored
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.panoptic.generators.fcclip import FcClipHeads
from clipself.structures import TextRows


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Fills the heads, feeds the drawn pyramid and text, compares features, masks and logits."""
    heads = build(manifest["config"], fill_manifest(manifest))
    drawn = draw(manifest["inputs"], arrays)
    pyramid = [value for name, value in sorted(drawn.items()) if name.startswith("res")]  # finest first
    counts = tuple(int(count) for count in manifest["config"]["num_templates"])
    text = TextRows(rows_SD=F.normalize(drawn["text"], dim=-1), counts=counts)
    features = heads.pixel_decoder(pyramid)
    predictions = heads(pyramid, text, all_layers=True)
    ours = {
        "mask_features": features.mask_features,
        **{f"ms{place}": level for place, level in enumerate(features.levels)},
        "pred_logits": predictions[-1].logits_BQK,
        "pred_masks": predictions[-1].masks_BQYX,
    }
    for place, one in enumerate(predictions[:-1]):
        ours |= {f"aux{place}_logits": one.logits_BQK, f"aux{place}_masks": one.masks_BQYX}
    parts = {"pixel_decoder": heads.pixel_decoder, "predictor": heads.predictor}
    counted = [
        compare(f"n_params/{name}", sum(parameter.numel() for parameter in parts[name].parameters()), count, atol=0.0)
        for name, count in manifest.get("n_params", {}).items()
    ]
    return compare_stored(manifest, arrays, ours, default=1e-3, given=drawn) + counted


def build(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> FcClipHeads:
    """The heads of a manifest, loaded strictly.

    Raises:
        ValueError: The manifest wants mask features of another width than the decoders.
    """
    if config.get("mask_dim", config["conv_dim"]) != config["conv_dim"]:
        raise ValueError(f"mask_dim={config['mask_dim']} for conv_dim={config['conv_dim']}; only equal ones are built")
    levels = sum(bool(re.search(r"pixel_decoder\.input_proj\.\d+\.0\.weight$", name)) for name in state)
    first = state["sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.attention_weights.bias"]
    heads = FcClipHeads(
        in_channels=config["in_channels"],
        embed_dim=config["clip_embedding_dim"],
        channels=config["conv_dim"],
        pixel_layers=config["enc_layers"],
        pixel_hidden=config["enc_ffn"],
        points=len(first) // (config["heads"] * levels),
        layers=config["dec_layers"],
        hidden=config["dec_ffn"],
        queries=config["queries"],
        heads=config["heads"],
    )
    heads.load_state_dict(state, strict=True)
    return heads.eval()


def draw(inputs: Mapping[str, Any], arrays: Arrays) -> dict[str, Tensor]:
    """Inputs in the manifest's order from one generator; a stored one takes the place of its draw."""
    generator = np.random.default_rng(int(inputs["seed"]))
    drawn = {}
    for row in inputs["order"]:
        numbers = generator.standard_normal(tuple(row["shape"])).astype(np.float32)
        drawn[row["name"]] = torch.from_numpy(arrays.get(row["name"], numbers))
    return drawn
