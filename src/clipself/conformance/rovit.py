"""`rovit_vit`, `rovit_heads`, `rovit_scores_losses`: RO-ViT's detector, as its successor DITO publishes it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clipself.backbones.strict import check_fit
from clipself.conformance.check import Check
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest
from clipself.conformance.pretraining import check_all
from clipself.detection.detectors.rovit.geometry import (
    centreness_of,
    decode_regions,
    decode_sides,
    encode_regions,
    shrink_boxes,
)
from clipself.detection.detectors.rovit.heads import CentrenessHead, CosineBoxHead
from clipself.detection.detectors.rovit.losses import centreness_loss, class_loss, delta_loss, overlap_loss
from clipself.detection.detectors.rovit.published_names import (
    BOXES,
    PROPOSALS,
    PYRAMID,
    box_names,
    proposal_names,
    pyramid_names,
    rename,
    vit_names,
)
from clipself.detection.detectors.rovit.scores import with_objectness
from clipself.detection.detectors.rovit.vit import PlainViT
from clipself.detection.detectors.two_stage.fusion import cosine_logits, fuse_fvlm
from clipself.layers.pyramid import PlainPyramid
from clipself.ops.axes import unfold_axis
from clipself.ops.boxes import clip_boxes
from clipself.ops.cell_crops import crop_levels


@torch.no_grad()
def run_vit(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Every variant of windows and the pass at the size of the table."""
    config, state = manifest["config"], fill_manifest(manifest)
    images = {
        key: torch.from_numpy(arrays[key]).permute(0, 3, 1, 2) for key in ("image", "image_native") if key in arrays
    }
    ours: dict[str, Tensor] = {}
    for name, variant in config["variants"].items():
        vit = _vit(config, variant)
        load(vit, rename(state, vit_names(config["num_layers"])), told=state, prefix="vision_model.")
        ours[f"out_{name}"] = vit(images["image"])
    if "image_native" in images:
        vit = _vit(config, {"window_counts": [0] * config["num_layers"], "shift": 0})
        load(vit, rename(state, vit_names(config["num_layers"])), told=state, prefix="vision_model.")
        ours["out_native"] = vit(images["image_native"])
    return check_all(manifest, arrays, {key: value.permute(0, 2, 3, 1) for key, value in ours.items()})


def _vit(config: Mapping[str, Any], variant: Mapping[str, Any]) -> PlainViT:
    return PlainViT(
        patch=config["patch_size"], width=config["features"], layers=config["num_layers"], heads=config["num_heads"],
        table=config["pretrained_pos_emb_size"], windows=[count or 0 for count in variant["window_counts"]],
        shift=variant["shift"], mlp_ratio=config["mlp_ratio"], eps=config["norm_eps"],
    )  # fmt: skip


def _inner(state: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Channels within the upsampling; pyramids from level 3 upsample once, those from level 4 never."""
    kernels = [state.get(f"{PYRAMID}ConvTranspose_{place}.kernel") for place in (0, 1)]
    widths = [kernel.shape[1] for kernel in kernels if kernel is not None]
    return (widths[0], widths[-1]) if widths else None


@torch.no_grad()
def run_heads(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Pyramid, proposal head, crops over the levels and box head."""
    config, state = manifest["config"], fill_manifest(manifest)
    levels, channels, eps = (config["levels"][0], config["levels"][1]), config["filters"], config["norm_eps"]
    pyramid = PlainPyramid(width=config["width"], channels=channels, levels=levels, inner=_inner(state), eps=eps)
    load(pyramid, rename(state, pyramid_names(levels)), told=state, prefix=PYRAMID)
    head = CentrenessHead(channels=channels, convs=config["rpn_convs"], levels=levels[1] - levels[0] + 1, eps=eps)
    load(head, rename(state, proposal_names(config["rpn_convs"], levels)), told=state, prefix=PROPOSALS)
    bins = arrays["roi_features"].shape[2]
    box_head = CosineBoxHead(
        channels=channels, bins=bins, convs=config["box_convs"], layers=config["box_fcs"], width=config["fc_dims"],
        embed_dim=config["text_dim"], eps=eps,
    )  # fmt: skip
    load(box_head, rename(state, box_names(config["box_convs"], config["box_fcs"])), told=state, prefix=BOXES)
    maps = pyramid(torch.from_numpy(arrays["feature"]).permute(0, 3, 1, 2))
    logits, sides = head(maps)
    rois_BR4 = torch.from_numpy(arrays["rois"])[..., [1, 0, 3, 2]]
    cropped = crop_levels(maps, list(rois_BR4), levels=levels, bins=bins)
    embeddings, deltas = box_head(cropped)
    each = (rois_BR4.shape[0], rois_BR4.shape[1])
    ours = {
        "roi_features": unfold_axis(cropped.permute(0, 2, 3, 1), 0, each),
        "roi_embeddings": unfold_axis(embeddings, 0, each),
        "roi_boxes": unfold_axis(deltas[:, [1, 0, 3, 2]], 0, each),
    }
    for place, level in enumerate(range(levels[0], levels[1] + 1)):
        ours |= {
            f"p{level}": maps[place].permute(0, 2, 3, 1),
            f"rpn_score_{level}": logits[place][..., None],
            f"rpn_box_{level}": sides[place],
        }
    return check_all(manifest, arrays, ours)


def load(module: nn.Module, state: Mapping[str, Tensor], *, told: Mapping[str, Tensor], prefix: str) -> None:
    """Fills a part, strictly both ways: what the manifest lists under the prefix must all have found a place.

    Raises:
        ValueError: A parameter is missing, left over or of another shape.
    """
    check_fit(state, module.state_dict(), source="the manifest", advice="its layers are not those of its settings")
    listed = sum(name.startswith(prefix) for name in told)
    if listed != len(state):
        raise ValueError(f"the manifest lists {listed} parameters under {prefix}, {len(state)} of them have a place")
    module.load_state_dict(dict(state), strict=True)
    module.eval()


def run_scores(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Scores, boxes, and every loss with its gradient."""
    held = {key: torch.from_numpy(arrays[key]) for key in arrays}
    config = manifest["config"]
    return check_all(manifest, arrays, {**_scores(held, config), **_boxes(held, config), **_losses(held, config)})


def _scores(held: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Their background is the column that the manifest names, ours is the last."""
    column, columns = config["background_column"], held["text"].shape[1]
    order = [place for place in range(columns) if place != column] + [column]
    back = torch.tensor(order).argsort()
    ours: dict[str, list[Tensor]] = {}
    for image, base in enumerate(held["base"].bool()):
        text = held["text"][image]
        logits = {
            kind: cosine_logits(held[f"{kind}_embed"][image], text, 1 / config[f"{kind}_temperature"])
            for kind in ("det", "vlm")
        }
        chances = [logits[kind][:, order].softmax(-1) for kind in ("det", "vlm")]
        exponents = {"alpha": config["vlm_weight_base"], "beta": config["vlm_weight_novel"]}
        fused = fuse_fvlm(*chances, base_K=base[order], **exponents)
        plain = fuse_fvlm(*chances, base_K=torch.zeros_like(base), **exponents)
        scores = with_objectness(fused, held["objectness"][image], power=config["objectness_power"])
        found = {
            "det_logits": logits["det"], "vlm_logits": logits["vlm"], "fused": fused[:, back],
            "fused_no_indicator": plain[:, back], "scores": scores[:, back],
        }  # fmt: skip
        for key, value in found.items():
            ours.setdefault(key, []).append(value)
    return {key: torch.stack(values) for key, values in ours.items()}


def _xyxy(boxes_yxyx: Tensor) -> Tensor:
    """Either order to the other."""
    return boxes_yxyx[..., [1, 0, 3, 2]]


def _boxes(held: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    decoded = decode_sides(_xyxy(held["anchors"]), held["lrtb"])
    shrunk = shrink_boxes(_xyxy(held["proposals"]), factor=config["shrink"], size=tuple(config["shrink_image_hw"]))
    stds = tuple(1 / weight for weight in config["roi_box_weights"])
    proposals = _xyxy(held["proposals"])
    return {
        "decoded": _xyxy(decoded),
        "decoded_clipped": _xyxy(clip_boxes(decoded, size=tuple(config["image_hw"]))),
        "encoded": _xyxy(encode_regions(proposals, _xyxy(held["gt_boxes"]), stds=stds)),
        "decoded_rois": _xyxy(decode_regions(proposals, _xyxy(held["deltas"]), stds=stds)),
        "shrunk": _xyxy(shrunk),
        "centreness": centreness_of(_xyxy(held["centreness_boxes"]), _xyxy(held["centreness_anchors"])),
    }


def _losses(held: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    samples = len(held["lrtb"]) * config["rpn_samples"]
    logits, sides = held["center_logits"].clone().requires_grad_(), held["lrtb"].clone().requires_grad_()
    centre = centreness_loss(logits, held["center_targets"]) / samples
    boxes = clip_boxes(decode_sides(_xyxy(held["anchors"]), sides), size=tuple(config["image_hw"]))
    overlap = config["iou_weight"] * overlap_loss(boxes, _xyxy(held["box_targets"])) / samples
    classes, columns = held["det_logits"].clone().requires_grad_(), held["det_logits"].shape[-1]
    column = config["background_column"]
    order = [place for place in range(columns) if place != column] + [column]
    wanted = torch.tensor(order).argsort()[held["class_targets"].long()].flatten()
    named = class_loss(
        classes.flatten(0, 1)[:, order], wanted, seen_K=torch.ones(columns, dtype=torch.bool),
        background_weight=config["background_weight"],
    ) / len(wanted)  # fmt: skip
    deltas = held["roi_box_pred"].clone().requires_grad_()
    matched = held["class_targets"] != column
    moved = delta_loss(deltas[matched], held["roi_box_target"][matched]) / max(1, 4 * int(matched.sum()))
    (centre + overlap + named + moved).backward()
    grads = {"center_grad": logits, "iou_grad_lrtb": sides, "class_grad": classes, "roi_box_grad": deltas}
    ours = {"center_loss": centre, "iou_loss": overlap, "class_loss": named, "roi_box_loss": moved}
    return {**ours, **{key: tensor.grad for key, tensor in grads.items() if tensor.grad is not None}}
