"""`cora_train_step*`: one step of the localiser, as it is or on both halves of the names."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from clipself.conformance.check import Check, compare
from clipself.conformance.cora_cases import batch_of, told_compare, tolerance
from clipself.conformance.cora_detector import Parts, by_class, ordered, parts_of
from clipself.conformance.cora_losses import (
    all_losses,
    check_losses,
    check_pairs,
    criterion_of,
    objects_of,
    weighted_total,
)
from clipself.conformance.dense_models import Arrays
from clipself.conformance.told import number_in
from clipself.detection.detectors.cora.anchors import class_chances, halves_of
from clipself.detection.detectors.cora.localiser import Predictions
from clipself.losses.set_prediction import corners


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Compares anchors, predictions, pairs, losses, gradients and what the optimizer makes of them."""
    config, parts = manifest["config"], parts_of(manifest, arrays)
    parts.localiser.train()
    ours, layers, first = _forward(arrays, parts)
    classes = ours["proposal_classes"]
    objects = objects_of(arrays)
    objects *= len(classes) // len(objects)
    pairs, losses = all_losses(criterion_of(config), layers, first, objects, classes)
    total = weighted_total(losses, config["loss_weights"])
    total.backward()  # type: ignore[no-untyped-call]
    return [
        *(told_compare(manifest, arrays, key, one) for key, one in ours.items() if key in arrays),
        *check_pairs(manifest, arrays, pairs),
        *check_losses(manifest, losses, total),
        *_check_step(manifest, arrays, dict(parts.localiser.named_parameters())),
    ]


def _forward(arrays: Arrays, parts: Parts) -> tuple[dict[str, Tensor], list[Predictions], Predictions | None]:
    """Stored quantities ahead of the losses, all layers' predictions and the first stage's."""
    regions, localiser = parts.regions, parts.localiser
    images, sizes = batch_of(arrays)
    texts_KD = torch.from_numpy(arrays["text"])
    texts_CKD = (
        halves_of(texts_KD, torch.from_numpy(arrays["split_mask"]) > 0) if "split_mask" in arrays else texts_KD[None]
    )
    copies = len(texts_CKD)
    maps = regions.read(images, sizes)
    memory = localiser.encode(maps.inner)
    first = localiser.first_stage(memory)
    anchors = localiser.anchors(memory, first)
    batch, count = anchors.shape[:2]
    features = regions.embed_fast(maps, list(corners(anchors.detach()))).view(batch, count, -1)
    texts_BKD = texts_CKD.repeat_interleave(batch, dim=0)
    chances = class_chances(
        features.repeat(copies, 1, 1), texts_BKD, temperature=parts.settings.temperature,
        factor_K=torch.ones(len(texts_KD)),
    )  # fmt: skip
    classes = chances.argmax(-1)
    order = by_class(classes)
    classes, anchors = ordered(classes, order), ordered(anchors.repeat(copies, 1, 1), order)
    layers = localiser.decode(memory.repeated(copies), anchors, ordered(texts_BKD, classes))
    ours = {
        "proposal_classes": classes, "proposal": anchors.transpose(0, 1), "pred_boxes": layers[-1].boxes_BQ4,
        "pred_logits": layers[-1].logits_BQ[..., None],
    }  # fmt: skip
    return ours, layers, first


def _check_step(manifest: Mapping[str, Any], arrays: Arrays, learning: Mapping[str, nn.Parameter]) -> list[Check]:
    """Gradients ahead of the clipping, then one step of AdamW."""
    config = manifest["config"]
    gradients = {
        name: torch.zeros_like(one) if one.grad is None else one.grad.clone() for name, one in learning.items()
    }
    checks = [
        compare(f"norm:{name}", float(gradients[name].norm()), norm, **tolerance(manifest, "gradient_norms"))
        for name, norm in manifest["gradient_norms"].items()
    ]
    checks += [
        told_compare(manifest, arrays, key, gradients[key.removeprefix("grad:")], kind="gradients")
        for key in arrays
        if key.startswith("grad:")
    ]
    optimizer = torch.optim.AdamW(
        learning.values(), lr=config["lr"], betas=tuple(config["betas"]), eps=config["eps"],
        weight_decay=config["weight_decay"],
    )  # fmt: skip
    norm = float(nn.utils.clip_grad_norm_(learning.values(), config["clip_max_norm"]))
    optimizer.step()
    facts = manifest["facts_of_the_run"]
    least = number_in(manifest["tolerances"].get("after", ""), r"above ([0-9.e-]+)", default=1e-2)
    checks.append(compare("norm of all gradients", norm, facts["clip_norm"], **tolerance(manifest, "gradient_norms")))
    checks.append(compare("tensors that learn", len(learning), facts["n_trainable"], atol=0.0))
    for key in (key for key in arrays if key.startswith("after:")):
        name = key.removeprefix("after:")
        clear = (gradients[name].abs() > least).numpy()
        after = learning[name].detach().numpy()
        checks.append(compare(key, after[clear], arrays[key][clear], **tolerance(manifest, "after")))
    return checks
