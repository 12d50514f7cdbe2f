"""`cora_detector_*`, `cora_plus_options`: the whole detector in evaluation, from pixels to detections."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clipself.conformance.check import Check, compare_stored
from clipself.conformance.cora_cases import batch_of, clip_of, filled_state
from clipself.conformance.dense_models import Arrays
from clipself.detection.detectors.cora.anchors import box_scores, class_chances, select
from clipself.detection.detectors.cora.localiser import Localiser, Predictions
from clipself.detection.detectors.cora.published import localiser_state
from clipself.detection.detectors.cora.settings import CoraSettings
from clipself.detection.region_prompt.regions import ResNetRegions
from clipself.layers.sine_positions import padded_sine_positions
from clipself.losses.set_prediction import corners
from clipself.ops.boxes import inverse_sigmoid

SCORE_EPS = 1e-5
"""Of the logits as which the released code keeps its scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a manifest's weights make.

    Attributes:
        regions: The CLIP.
        localiser: In evaluation mode.
        settings: By the manifest.
    """

    regions: ResNetRegions
    localiser: Localiser
    settings: CoraSettings


def parts_of(manifest: Mapping[str, Any], arrays: Arrays) -> Parts:
    """Builds CLIP and localiser of a manifest, every tensor strictly."""
    settings, state = settings_of(manifest["config"]), filled_state(manifest, arrays)
    regions = ResNetRegions(clip_of(manifest["config"], state))
    localiser = Localiser(channels=regions.inner_channels, text_dim=regions.clip.embed_dim, settings=settings)
    localiser.load_state_dict(localiser_state(state), strict=True)
    return Parts(regions=regions, localiser=localiser.eval(), settings=settings)


def settings_of(config: Mapping[str, Any]) -> CoraSettings:
    """Released names of the sizes and constants -> ours."""
    usual = CoraSettings()
    return CoraSettings(
        width=config["hidden_dim"], hidden=config["ffn"], heads=config["heads"], queries=config["queries"],
        encoder_layers=config["enc_layers"], decoder_layers=config["dec_layers"], bottleneck=config["bottleneck"],
        dropout=config.get("dropout", 0.0), first_stage=config.get("stage1") or 0,
        deformable_encoder=any("deform" in flag for flag in config["flags"]),
        temperature=config.get("eval_tau", usual.temperature), novel_factor=config.get("factor", usual.novel_factor),
        objectness=config.get("objectness_alpha", usual.objectness),
        score_threshold=config.get("score_threshold", usual.score_threshold), nms=config.get("nms_iou", usual.nms),
        max_detections=config.get("max_detections", usual.max_detections),
    )  # fmt: skip


def by_class(classes_BQ: Tensor) -> Tensor:
    """Order of the anchors by the class that they look for, equal ones as they stand (B, Q)."""
    return classes_BQ.sort(dim=1, stable=True).indices


def ordered(values_BQ: Tensor, order_BQ: Tensor) -> Tensor:
    """Anchors (B, Q, ...) in another order."""
    return torch.stack([values[order] for values, order in zip(values_BQ, order_BQ, strict=True)])


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Follows one batch and compares every stored array."""
    parts = parts_of(manifest, arrays)
    ours = _through(manifest, arrays, parts)
    inputs = {"image_int8", "mask", "text", *manifest.get("stored_params", [])}
    return compare_stored(manifest, arrays, ours, default=1e-5, given=inputs)


def _through(manifest: Mapping[str, Any], arrays: Arrays, parts: Parts) -> dict[str, Tensor]:
    config, regions, localiser = manifest["config"], parts.regions, parts.localiser
    images, sizes = batch_of(arrays)
    texts_KD = torch.from_numpy(arrays["text"])
    maps = regions.read(images, sizes)
    memory = localiser.encode(maps.inner)
    first = localiser.first_stage(memory)
    anchors = localiser.anchors(memory, first)
    batch, count = anchors.shape[:2]
    features = regions.embed_fast(maps, list(corners(anchors))).view(batch, count, -1)
    factor_K = torch.ones(len(texts_KD))
    factor_K[config["novel_indices"]] = config["factor"]
    chances = class_chances(features, texts_KD[None], temperature=config["pre_matching_tau"], factor_K=factor_K)
    classes = chances.argmax(-1)
    order = by_class(classes)
    sorted_classes, sorted_anchors = ordered(classes, order), ordered(anchors, order)
    content = localiser.text_proj(texts_KD[sorted_classes])
    decoded = localiser.transformer.decoder(content, sorted_anchors, memory, list(localiser.bbox_embed))
    layers = localiser.decode(memory, sorted_anchors, texts_KD[sorted_classes])
    found = _detections(config, parts, maps, layers[-1], texts_KD)
    places = padded_sine_positions(maps.inner.padding_BYX, config["hidden_dim"], temperature=20.0)
    return {
        "layer3": maps.inner.values, "layer4": maps.last.values, "mask_layer3": maps.inner.padding_BYX.int(),
        "mask_layer4": maps.last.padding_BYX.int(),
        "pos_layer3": places.masked_fill(maps.inner.padding_BYX[:, None], 0.0),
        "anchor_region_features": features, "anchor_similarity": features @ texts_KD.mT,
        "anchor_probability_scaled": chances, "anchor_class": classes, "anchor_order": order,
        "proposal_classes": sorted_classes, "proposal": sorted_anchors.transpose(0, 1),
        "memory": memory.cells_BNC.masked_fill(memory.padding_BN[..., None], 0.0).transpose(0, 1),
        "hs": torch.stack([one.hidden_BQC for one in decoded]),
        "reference": torch.stack([one.start_BQ4 for one in decoded]),
        **_layers(layers), **_first(first, anchors), **found,
    }  # fmt: skip


def _layers(layers: list[Predictions]) -> dict[str, Tensor]:
    *auxiliary, last = layers
    ours = {"objectness": last.logits_BQ[..., None], "pred_boxes": last.boxes_BQ4}
    for place, one in enumerate(auxiliary):
        ours |= {f"aux_boxes_{place}": one.boxes_BQ4, f"aux_objectness_{place}": one.logits_BQ[..., None]}
    return ours


def _first(first: Predictions | None, anchors: Tensor) -> dict[str, Tensor]:
    if first is None:
        return {}
    return {
        "rpn_logits": first.logits_BQ[..., None], "rpn_boxes": first.boxes_BQ4, "selected_boxes_sigmoid": anchors,
    }  # fmt: skip


def _detections(
    config: Mapping[str, Any], parts: Parts, maps: Any, last: Predictions, texts_KD: Tensor
) -> dict[str, Tensor]:
    """Embeddings and scores of the boxes, and what is left of them in original pixels."""
    settings, boxes = parts.settings, corners(last.boxes_BQ4)
    features = parts.regions.embed(maps, list(boxes)).view(*boxes.shape[:2], -1)
    scores = box_scores(
        features, texts_KD, last.logits_BQ, temperature=settings.temperature, objectness=settings.objectness
    )
    logits = inverse_sigmoid(scores, eps=SCORE_EPS)
    ours = {"box_region_features": features, "pred_logits": logits}
    for image, (rows, cols) in enumerate(config["orig"]):
        found = select(
            boxes[image], logits[image].sigmoid(), threshold=settings.score_threshold, nms=settings.nms,
            most=settings.max_detections,
        )  # fmt: skip
        pixels = found.boxes * torch.tensor([cols, rows, cols, rows])
        ours |= {f"det{image}_scores": found.scores, f"det{image}_labels": found.labels, f"det{image}_boxes": pixels}
    return ours
