"""`clipself_preprocess`: pictures, grids, proposals and masks through the published preprocessing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipself.conformance.check import Check, compare
from clipself.conformance.dense_models import Arrays
from clipself.conformance.told import number_in
from clipself.data.preprocess import Preprocess, boxes_on_student
from clipself.data.regions import choose_proposals
from clipself.ops.boxes import denormalize_boxes
from clipself.ops.grids import grid_boxes, grid_choices
from clipself.ops.masks import resize_masks_to_grid

CLIP_STATISTICS = Preprocess(
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """What the manifest tells: tolerances, and the enlargement of the teacher's crops."""

    pixels: float
    boxes: float
    enlarge: float


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Every picture of the manifest; sizes are told by the stored arrays."""
    published = [tuple(pair) for pair in manifest["grid_choices_rows_cols"]]
    ours = grid_choices(max(rows for rows, _ in published))
    checks = [Check(key="grid choices", difference=float(set(ours) != set(published)), tolerance=0.0)]
    tolerances = manifest.get("tolerances", {})
    allowed = Allowed(
        pixels=number_in(tolerances, r"allow ([0-9.e-]+) across", default=0.016),
        boxes=number_in(tolerances.get("boxes", ""), r"([0-9.e-]+)", default=1e-6),
        enlarge=number_in(manifest.get("keys", ""), r"([0-9.]+)x crops", default=1.5),
    )
    for name in sorted({key.split("/")[0] for key in arrays}):
        part = {key.split("/", 1)[1]: value for key, value in arrays.items() if key.startswith(f"{name}/")}
        checks += [
            *_check_image(name, part, allowed),
            *_check_grids(name, part, allowed),
            *_check_proposals(name, part, allowed),
        ]
        checks += _check_masks(name, part)
    return checks


def _check_image(name: str, part: Arrays, allowed: Allowed) -> list[Check]:
    side = part["student"].shape[-1]
    image, scale = CLIP_STATISTICS.student_image(Image.fromarray(part["image"]), side)
    return [
        compare(f"{name}/student", image.numpy(), part["student"], atol=allowed.pixels),
        compare(f"{name}/scale", scale, part["scale"], atol=allowed.boxes),
    ]


def _check_grids(name: str, part: Arrays, allowed: Allowed) -> list[Check]:
    image, side = Image.fromarray(part["image"]), part["student"].shape[-1]
    scale, size, checks = float(part["scale"]), (image.height, image.width), []
    for key in part:
        found = re.fullmatch(r"grid(\d+)x(\d+)/crops", key)
        if found is None:
            continue
        stored = part[key]
        boxes = denormalize_boxes(grid_boxes(int(found[1]), int(found[2])), size=size)
        crops = CLIP_STATISTICS.teacher_crops(image, boxes, stored.shape[-1])
        boxes_norm = boxes_on_student(boxes, scale=scale, side=side)
        checks.append(compare(f"{name}/{key}", crops.numpy(), stored, atol=allowed.pixels))
        boxes_key = key.replace("crops", "boxes")
        checks.append(compare(f"{name}/{boxes_key}", boxes_norm.numpy(), part[boxes_key], atol=allowed.boxes))
    return checks


def _check_proposals(name: str, part: Arrays, allowed: Allowed) -> list[Check]:
    if "proposals_xywh" not in part:
        return []
    image, side = Image.fromarray(part["image"]), part["student"].shape[-1]
    stored = part["prop/crops"]
    proposals = torch.from_numpy(part["proposals_xywh"])
    kept = choose_proposals(
        proposals, size=(image.height, image.width), max_regions=len(proposals), enlarge=allowed.enlarge
    )
    crops = CLIP_STATISTICS.teacher_crops(image, kept.crop_boxes, stored.shape[-1])
    boxes_norm = boxes_on_student(kept.boxes, scale=float(part["scale"]), side=side)
    slots = _into_slots(torch.nn.functional.pad(boxes_norm, (0, 1), value=1.0), len(stored))
    valid = part["prop/boxes"][:, 4] > 0.5
    return [
        compare(f"{name}/prop/valid", slots[:, 4].numpy() > 0.5, np.sort(valid)[::-1], atol=0.0),
        compare(f"{name}/prop/boxes", boxes_norm.numpy(), part["prop/boxes"][valid, :4], atol=allowed.boxes),
        compare(f"{name}/prop/crops", crops.numpy(), stored[valid], atol=allowed.pixels),
    ]


def _into_slots(rows: Tensor, count: int) -> Tensor:
    return torch.nn.functional.pad(rows, (0, 0, 0, count - len(rows)))


def _check_masks(name: str, part: Arrays) -> list[Check]:
    checks = []
    for key, antialias in (("mask_no_antialias", False), ("mask_current_torchvision", True)):
        if key in part:
            mask = torch.from_numpy(part["mask_in"])[None]
            ours = resize_masks_to_grid(mask, grid=part[key].shape[-1], antialias=antialias)[0]
            checks.append(compare(f"{name}/{key}", ours.numpy(), part[key], atol=0.0))
    return checks
