"""`cora_losses`, `cora_losses_plus`: class-aware matching, losses of all layers, their gradients."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from clipself.conformance.check import Check, compare, unchecked
from clipself.conformance.cora_cases import by_image, told_compare, tolerance
from clipself.conformance.dense_models import Arrays
from clipself.detection.detectors.cora.localiser import Predictions
from clipself.detection.detectors.cora.matching import Objects, SetCriterion, count_pairs
from clipself.losses.assignment import Match
from clipself.losses.set_prediction import Focal, SetWeights

TERMS = {"loss_ce": "objectness", "loss_bbox": "boxes", "loss_giou": "overlap"}
"""Released name of a loss -> ours; layers and first stage are told by what follows it."""


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Compares pairs, terms, their sum and its gradients."""
    config = manifest["config"]
    criterion, classes = criterion_of(config), torch.from_numpy(arrays["proposal_classes"])
    layers = [_predictions(arrays, f"logits_{layer}", f"boxes_{layer}") for layer in range(config["layers"])]
    first = _predictions(arrays, "rpn_logits", "rpn_boxes") if "rpn_logits" in arrays else None
    objects = objects_of(arrays)
    objects *= len(classes) // len(objects)
    pairs, losses = all_losses(criterion, layers, first, objects, classes)
    total = weighted_total(losses, config["loss_weights"])
    total.backward()  # type: ignore[no-untyped-call]
    leaves = {f"logits_{place}": one.logits_BQ for place, one in enumerate(layers)}
    leaves |= {f"boxes_{place}": one.boxes_BQ4 for place, one in enumerate(layers)}
    leaves |= {"rpn_logits": first.logits_BQ, "rpn_boxes": first.boxes_BQ4} if first is not None else {}
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    return [
        *check_pairs(manifest, arrays, pairs),
        *check_losses(manifest, losses, total),
        *(
            told_compare(manifest, arrays, f"grad_{name}", one.reshape(arrays[f"grad_{name}"].shape), kind="gradients")
            for name, one in gradients.items()
            if one is not None and f"grad_{name}" in arrays
        ),
    ]


def criterion_of(config: Mapping[str, Any]) -> SetCriterion:
    """Weights and constants of a manifest; what it does not tell is as released."""
    weights, groups = config["loss_weights"], config.get("class_group")
    usual, stage_cost = SetCriterion(), config.get("rpn_cls_cost")
    return SetCriterion(
        costs=SetWeights(
            classes=config.get("cost_class", usual.costs.classes),
            box=config.get("cost_bbox", usual.costs.box),
            overlap=config.get("cost_giou", usual.costs.overlap),
        ),
        weights=SetWeights(classes=weights["loss_ce"], box=weights["loss_bbox"], overlap=weights["loss_giou"]),
        first_stage_class=usual.first_stage_class if stage_cost is None else stage_cost,
        focal=Focal(
            alpha=config.get("focal_alpha", usual.focal.alpha), gamma=config.get("focal_gamma", usual.focal.gamma)
        ),
        groups_K=None if groups is None else torch.tensor(groups),
    )


def objects_of(arrays: Arrays) -> list[Objects]:
    """The stored targets of each image."""
    boxes, labels = by_image(arrays, "target_boxes"), by_image(arrays, "target_labels")
    if len(boxes) != len(labels):
        raise ValueError(f"the arrays hold target_boxes of {len(boxes)} images and target_labels of {len(labels)}")
    return [Objects(boxes_N4=one, labels_N=many) for one, many in zip(boxes, labels, strict=True)]


def all_losses(
    criterion: SetCriterion,
    layers: list[Predictions],
    first: Predictions | None,
    objects: list[Objects],
    classes_BQ: Tensor,
) -> tuple[dict[str, list[Match]], dict[str, Tensor]]:
    """Pairs by the manifest's name of a layer, and terms by the released names, divided by the last layer's pairs."""
    *auxiliary, last = layers
    sets = {"": last, **{f"_{place}": one for place, one in enumerate(auxiliary)}}
    pairs = {end: criterion.match(one, objects, classes_BQ) for end, one in sets.items()}
    if first is not None:
        own = objects[: len(first.logits_BQ)]  # the first stage does not look twice where the names are split
        sets["_rpn"], pairs["_rpn"] = first, criterion.match_first_stage(first, own)
    count = max(1, count_pairs(pairs[""]))
    losses: dict[str, Tensor] = {}
    for end, one in sets.items():
        terms = criterion.losses(one, objects[: len(one.logits_BQ)], pairs[end])
        losses |= {f"{theirs}{end}": terms[ours] / count for theirs, ours in TERMS.items()}
    objects_there = sum(len(one.labels_N) for one in objects)
    losses["matched_gt"] = torch.tensor(count_pairs(pairs[""]) / max(1, objects_there))
    losses |= _logged(sets, objects_there / max(1, len(objects)), matched=count_pairs(pairs[""]))
    names = {end: "match_last" if not end else f"match{end if end == '_rpn' else f'_aux{end}'}" for end in pairs}
    return {names[end]: found for end, found in pairs.items()}, losses


def _logged(ends: Iterable[str], objects: float, *, matched: int) -> dict[str, Tensor]:
    """What the release logs besides, in which its one logit stands for a class and, as the last, for none.

    So a matched anchor is always right, and no anchor is ever counted as an object.

    Args:
        ends: Names of the sets.
        objects: Of a picture, on average.
        matched: Anchors of the last layer that have an object.
    """
    error = torch.tensor(0.0 if matched else 100.0)
    return {"class_error": error, **{f"cardinality_error{end}": torch.tensor(objects) for end in ends}}


def weighted_total(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The sum over the terms that have a weight."""
    return torch.stack([weight * losses[name] for name, weight in weights.items()]).sum()


def check_pairs(manifest: Mapping[str, Any], arrays: Arrays, pairs: Mapping[str, list[Match]]) -> list[Check]:
    """Every stored set of pairs."""
    checks = []
    for name, found in pairs.items():
        for image, one in enumerate(found):
            if f"{name}_{image}" in arrays:
                ours = torch.stack([one.queries_M, one.targets_M])
                checks.append(told_compare(manifest, arrays, f"{name}_{image}", ours))
    return checks


def check_losses(manifest: Mapping[str, Any], losses: Mapping[str, Tensor], total: Tensor) -> list[Check]:
    """Every term that counts, the total, and what is only logged."""
    told, allowed = manifest["losses"], tolerance(manifest, "losses")
    checks = [compare(name, loss.item(), told[name], **allowed) for name, loss in losses.items() if name in told]
    checks += [unchecked(name) for name in told if name not in losses]
    missing = [name for name in manifest["config"]["loss_weights"] if name not in losses]
    checks += [Check(key=f"{name} is not computed", difference=float("inf"), tolerance=0.0) for name in missing]
    return [*checks, compare("total", total.item(), manifest["total"], **allowed)]


def _predictions(arrays: Arrays, logits: str, boxes: str) -> Predictions:
    return Predictions(
        logits_BQ=torch.from_numpy(arrays[logits])[..., 0].requires_grad_(),
        boxes_BQ4=torch.from_numpy(arrays[boxes]).requires_grad_(),
    )
