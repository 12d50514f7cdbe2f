"""`rovit_cpe`, `rovit_focal_contrastive`, `cfm_recipe`: what the pre-trainings of RO-ViT and CFM-ViT are made of."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clipself.conformance.check import Check, compare_told, unchecked
from clipself.conformance.dense_models import Arrays
from clipself.losses.contrast import focal_both, focal_contrast, softmax_pairs
from clipself.losses.masked_features import masked_features
from clipself.ops.positions import crop_position_table, drop_positions, enlarge_positions


def run_rovit(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Two manifests share the system "RO-ViT"; their settings tell them apart."""
    ours = _cropped(manifest, arrays) if "upsampled_side" in manifest["config"] else _contrasted(manifest, arrays)
    return check_all(manifest, arrays, ours)


def run_cfm(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """The formulas of CFM-ViT as we read them, in the precision of what is stored."""
    held = {name: torch.from_numpy(arrays[name]) for name in arrays}
    ours: dict[str, Tensor] = {}
    for counted in manifest["config"]["variants"]:
        predicted = held["predicted"].clone().requires_grad_()
        loss = masked_features(predicted, held["target"], held["mask"], counted=counted)
        loss.backward()  # type: ignore[no-untyped-call]
        assert predicted.grad is not None
        ours |= {f"rec_{counted}": loss.detach(), f"grad_{counted}": predicted.grad}
    temperature = 1 / manifest["config"]["temperature"]
    ours["contrast"] = softmax_pairs(held["image"], held["text"], temperature=temperature) / len(held["image"])
    for counted in manifest["config"]["variants"]:
        ours[f"total_{counted}"] = ours["contrast"] + ours[f"rec_{counted}"]
    dropped = drop_positions(held["positions"], held["keep"].bool())
    ours["with_positions"] = held["tokens"] + dropped
    return check_all(manifest, arrays, ours)


def check_all(manifest: Mapping[str, Any], arrays: Arrays, ours: Mapping[str, Tensor]) -> list[Check]:
    """Every quantity of ours that is stored, each at its own tolerance; an output that is told and not ours fails."""
    told = {name for names in manifest.get("outputs", {}) for name in re.split(r", |/", names)}
    return [unchecked(key) for key in arrays if key in told and key not in ours] + [
        compare_told(manifest, key, value.detach().numpy(), arrays[key], default=1e-5)
        for key, value in ours.items()
        if key in arrays
    ]


def _cropped(manifest: Mapping[str, Any], arrays: Arrays) -> dict[str, Tensor]:
    side, enlarged = manifest["config"]["table_side"], manifest["config"]["upsampled_side"]
    table = torch.from_numpy(arrays["pos"]).double()[0].requires_grad_()
    boxes_B4 = torch.from_numpy(arrays["boxes"]).double()[:, 0][:, [1, 0, 3, 2]]  # theirs are y1 x1 y2 x2
    large = enlarge_positions(table, grid=(side, side), side=enlarged)
    cropped = crop_position_table(table, boxes_B4, grid=(side, side), enlarged=enlarged)
    (cropped * torch.from_numpy(arrays["weight"])).sum().backward()  # type: ignore[no-untyped-call]
    assert table.grad is not None
    return {"upsampled": large.permute(0, 2, 3, 1), "cropped": cropped, "grad_pos": table.grad[None]}


def _contrasted(manifest: Mapping[str, Any], arrays: Arrays) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    for place, case in enumerate(manifest["config"]["cases"]):
        constants = {**manifest["config"].get("defaults", {}), **case}
        focal = {"alpha": constants["alpha"], "gamma": constants["gamma"]}
        logits = torch.from_numpy(arrays[f"logits_{place}"]).requires_grad_()
        targets = torch.from_numpy(arrays[f"targets_{place}"])
        loss = focal_contrast(logits, targets, normaliser=constants["normaliser"], **focal)
        loss.backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        ours |= {f"loss_{place}": loss, f"grad_{place}": logits.grad}
        if f"image_{place}" in arrays:
            ours |= _both(arrays, place, temperature=constants["temperature"], **focal)
    return ours


def _both(arrays: Arrays, place: int, *, temperature: float, alpha: float, gamma: float) -> dict[str, Tensor]:
    image, text = (torch.from_numpy(arrays[f"{name}_{place}"]).requires_grad_() for name in ("image", "text"))
    both = focal_both(temperature * image @ text.mT, alpha=alpha, gamma=gamma) / len(image)
    both.backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    assert text.grad is not None
    grads = {f"both_grad_image_{place}": image.grad, f"both_grad_text_{place}": text.grad}
    return {f"both_{place}": both, **grads}
