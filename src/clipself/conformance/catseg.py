"""`catseg_*`: the aggregator of both releases, their dense tower, and the whole model of the second."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.backbones.readouts import ReadoutContext, find_readout, read_last_block
from clipself.backbones.transformer import require_blocks
from clipself.choices import pick
from clipself.conformance.check import Check, compare, compare_stored, compare_told
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.conformance.told import number_in, whole_patches, words_of
from clipself.losses.class_maps import class_map_loss
from clipself.segmentation.catseg.aggregator import CostAggregator
from clipself.segmentation.catseg.inference import CatSegInference, score_picture
from clipself.segmentation.catseg.model import CatSeg, choose_learning
from clipself.segmentation.catseg.published import fuse_attention, published_names, read_catseg
from clipself.segmentation.catseg.settings import AggregatorSettings
from clipself.segmentation.published_clip import clip_of_tensors

LAST_BLOCKS: Final[Mapping[str, str]] = {"v1": "value", "v2": "catseg"}
"""Version in a manifest -> how its last block is read."""

TOLERANCE: Final = 3e-4
"""Of the whole model, where its manifest tells none."""

TIE: Final = 1e-6
"""Cosines that are nearer than this are equally near."""


@torch.no_grad()
def run_aggregator(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Cosines, each half of each layer, and the logits."""
    config = manifest["config"]
    aggregator = CostAggregator(aggregator_settings(config))
    prefix = manifest["official_prefix"]
    state = fill_manifest(manifest, prefix=prefix)
    aggregator.load_state_dict(state, strict=True)
    drawn = draw_inputs(manifest)
    pooling, cap = _square(config["pooling_size"]), config.get("pad_len") or None
    ours: dict[str, Tensor] = {}
    guidance = [drawn[f"appearance_guidance_{level}"] for level in range(3)]
    ours["logits"] = aggregator(drawn["img_feats"], drawn["text_feats"], guidance, pooling=pooling, class_cap=cap)
    ours["corr"] = aggregator.compare(drawn["img_feats"], drawn["text_feats"]).cosine_BPTYX
    if any(key.startswith("layer") for key in arrays):
        ours |= trace_layers(aggregator, drawn["img_feats"], drawn["text_feats"], guidance[0], pooling=pooling)
    counted = sum(parameter.numel() for parameter in aggregator.parameters())
    checks = [compare("parameters", counted, manifest["n_params"], atol=0.0)]
    if cap:
        ours["logits"] = align_tied(ours["logits"], torch.from_numpy(arrays["logits"]), ours["corr"], cap=cap)
    return checks + compare_stored(manifest, arrays, ours, default=2e-4, given=drawn)


def align_tied(ours_BTyx: Tensor, theirs_BTyx: Tensor, cosine_BPTYX: Tensor, *, cap: int) -> Tensor:
    """Of classes that are equally near at the cap, which ones are kept is open: ours in the order of theirs."""
    aligned = ours_BTyx.clone()
    if cap >= ours_BTyx.shape[1] or ours_BTyx.shape != theirs_BTyx.shape:
        return aligned
    for ours, theirs, best in zip(aligned, theirs_BTyx, cosine_BPTYX.amax((1, 3, 4)), strict=True):
        tied = ((best - best.topk(cap).values[-1]).abs() < TIE).nonzero().flatten()
        ranked = tied[theirs[tied].mean((1, 2)).argsort()]
        ours[ranked] = ours[tied[ours[tied].mean((1, 2)).argsort()]]
    return aligned


def _square(sides: Sequence[int]) -> int:
    if len(set(sides)) != 1:
        raise ValueError(f"the manifest pools by {list(sides)}; only squares are built")
    return int(sides[0])


def aggregator_settings(config: Mapping[str, Any]) -> AggregatorSettings:
    """The published names of the sizes -> ours."""
    return AggregatorSettings(
        text_channels=config["text_guidance_dim"],
        guidance_channels=config["appearance_guidance_dim"],
        decoder_guidance_channels=tuple(config["decoder_guidance_dims"]),
        prompts=config["prompt_channel"],
        hidden=config["hidden_dim"],
        projected=config["text_guidance_proj_dim"],
        guidance_projected=config["appearance_guidance_proj_dim"],
        class_attention=config.get("attention_type", "linear"),
        decoder_channels=tuple(config["decoder_dims"]),
        decoder_projected=tuple(config["decoder_guidance_proj_dims"]),
        layers=config["num_layers"],
        heads=config["nheads"],
        window=config["window_size"],
        pad_classes=config.get("pad_len", 0),
    )


def draw_inputs(manifest: Mapping[str, Any]) -> dict[str, Tensor]:
    """Standard normal tensors from one generator, in the manifest's order."""
    generator = np.random.default_rng(manifest["inputs"]["seed"])
    return {
        row["name"]: torch.from_numpy(generator.standard_normal(row["shape"]).astype(np.float32))
        for row in manifest["inputs"]["order"]
    }


def trace_layers(
    aggregator: CostAggregator, dense: Tensor, texts: Tensor, guidance: Tensor, *, pooling: int
) -> dict[str, Tensor]:
    """Cost embeddings (B, C, T, Y, X) after each half of each layer."""
    costs = aggregator.compare(dense, texts, class_cap=aggregator.settings.pad_classes)
    cost, maps = aggregator.embed(costs), aggregator.guidance_projection(guidance).permute(0, 2, 3, 1)
    projected, traced = aggregator.project_texts(costs.texts_BTPD), {}
    for number, layer in enumerate(aggregator.layers):
        cost = aggregator.run_spatial(layer, cost, maps)
        traced[f"layer{number}_spatial"] = cost.permute(0, 4, 1, 2, 3)
        cost = aggregator.run_classes(layer, cost, projected, pooling=pooling)
        traced[f"layer{number}_class"] = cost.permute(0, 4, 1, 2, 3)
    return traced


@torch.no_grad()
def run_dense_tower(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Every token of the dense last block, two taps, and the ordinary embedding."""
    config = manifest["config"]
    prefix = manifest["official_prefix"].removesuffix("visual.")
    filled = fill_manifest(manifest, prefix=prefix)
    clip = clip_of_tensors(fuse_attention(filled), name="small tower", source="filled by rule", heads=config["heads"])
    trunk, depth = require_blocks(clip, "CAT-Seg"), config["layers"]
    images = whole_patches(torch.from_numpy(arrays["image"]), config["patch"])
    entered, tokens = trunk.embed(images), []
    for block in list(trunk.blocks)[:-1]:
        entered = entered.with_tokens(trunk.forward_block(block, entered))
        tokens.append(entered.tokens)
    context = ReadoutContext(trunk=trunk, entered=(entered,), images_B3HW=images, guide_BCyx=entered.to_map())
    readout = find_readout(pick(LAST_BLOCKS, manifest["version"], what="version of CAT-Seg"))
    last = read_last_block(context, readout).tokens
    ours = {
        "image": draw_inputs(manifest)["image"],
        "dense": trunk.head(last),
        "tap_a": tokens[_told_block(words_of(manifest, "tap_a"), default=depth // 3 - 1)],
        "tap_b": tokens[_told_block(words_of(manifest, "tap_b"), default=2 * depth // 3 - 1)],
        "pooled": clip.encode_image(images, normalize=False),
    }
    return compare_stored(manifest, arrays, ours, default=1e-4)


def _told_block(words: str, *, default: int) -> int:
    told = re.search(r"block index (\d+)", words)
    return int(told.group(1)) if told else default


def run_model(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Single pass, sliding window, one training step, and the list of CLIP weights that learn."""
    model = read_catseg(fill_manifest(manifest), source="filled by rule")
    vision = [p.numel() for n, p in model.named_parameters() if not n.startswith("clip.clip.") or ".visual." in n]
    checks = [compare("parameters", sum(vision), manifest["n_params"], atol=0.0)]
    pixels, texts = torch.from_numpy(arrays["image"]).float(), torch.from_numpy(arrays["text"])[0]
    height, width = manifest["original_size"]
    model.image_size = _told_side(manifest)
    published = {
        "prob_single": CatSegInference(mode="whole", pooling=_told_pooling(manifest, "prob_single"), keep_padding=True),
        "prob_sliding": CatSegInference(mode="sliding", pooling=_told_pooling(manifest, "prob_sliding")),
    }
    for key, how in published.items():
        scores = torch.cat(list(score_picture(model, pixels, texts, size=(height, width), how=how)))
        checks += compare_stored(manifest, {key: arrays[key]}, {key: scores}, default=TOLERANCE)
    return checks + _check_training(model, manifest, arrays, texts)


def _told_pooling(manifest: Mapping[str, Any], key: str) -> int:
    return int(number_in(words_of(manifest, key), r"pooling (\d+)x\d+"))


def _told_side(manifest: Mapping[str, Any]) -> int:
    """Side of the square that CLIP sees."""
    return int(number_in(words_of(manifest, "prob_single"), r"resized to (\d+)x\d+"))


def _check_training(model: CatSeg, manifest: Mapping[str, Any], arrays: Arrays, texts: Tensor) -> list[Check]:
    choose_learning(model, "queries-values")
    side = model.image_size
    stored = {name.rpartition("_")[0]: torch.from_numpy(values) for name, values in arrays.items() if values.ndim >= 2}
    crop = enlarge(stored["train_crop"], side).float()
    labels = enlarge(stored["train_gt"][None], side)[0].long()
    logits = model(model.prepare(crop[None]), texts, pooling=_told_pooling(manifest, "train_loss"))
    resized = F.interpolate(logits, size=labels.shape, mode="bilinear", align_corners=False)
    ignored = int(number_in(manifest["inputs"], r"(\d+) = ignore"))
    loss = class_map_loss(resized, labels[None], ignore_label=ignored, ignored="negative")
    loss.backward()  # type: ignore[no-untyped-call]
    official = published_names(model)
    learning = {official[name] for name, p in model.named_parameters() if p.requires_grad and ".visual." in name}
    expected = set(manifest["trainable_clip_visual"])
    norms = {official[name]: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    checks = [
        compare_told(manifest, "train_loss", loss.item(), arrays["train_loss"], default=TOLERANCE),
        Check(key="CLIP weights that learn", difference=float(len(learning ^ expected)), tolerance=0.0),
    ]
    return checks + [
        compare_told(manifest, f"grad_norms/{name}", norms.get(name, 0.0), norm, default=TOLERANCE)
        for name, norm in manifest["outputs"]["grad_norms"].items()
    ]


def enlarge(map_CYX: Tensor, side: int) -> Tensor:
    """Repeats every cell until the map has this many rows and columns."""
    factor = side // map_CYX.shape[-1]
    return map_CYX.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
